//! The tests of crate `tree` that need a real disk.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests play the user, who edits files without asking us"
)]

mod apply_races;
mod attacks;
mod contract;
mod files;
mod lines;
mod meddler;
mod opening;
mod unprivileged;
mod user;
mod watching;

/// A test file that is not listed above would pass by never running.
#[test]
fn no_test_file_is_forgotten() {
    let main = include_str!("main.rs");
    // Of this run: what was built elsewhere may be run here.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("set by who runs tests");
    for entry in std::fs::read_dir(std::path::Path::new(&package).join("tests/it"))
        .expect("the tests' own directory")
    {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}

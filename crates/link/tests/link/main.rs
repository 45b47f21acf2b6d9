//! The crate's tests in one binary: real sockets on loopback, no pauses.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod common;
mod discovery;
mod frames;
mod handshake;
mod strangers;

/// Every file beside this one is a module of it.
#[test]
fn no_test_file_is_forgotten() {
    let me = include_str!("main.rs");
    // Of this run: what was built elsewhere may be run here.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("set by who runs tests");
    let files = std::path::Path::new(&package).join("tests/link");
    for entry in files.read_dir().expect("the tests' directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let stem = name.trim_end_matches(".rs");
        assert!(stem == "main" || me.contains(&format!("mod {stem};")), "{name}");
    }
}

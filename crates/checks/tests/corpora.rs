//! Runs every check on the corpus of its fuzz target, and on each input cut short and with a byte changed,
//! so that what fuzzing found is tried with every change.
#![allow(
    clippy::disallowed_methods,
    reason = "the test reads this repository's own files, nobody's folder"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use checks::{CHECKS, named};

/// The fuzz targets' directory. Of this run: what was built in one clone may be run in another.
fn fuzz() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").expect("set by who runs tests");
    Path::new(&package).join("../../fuzz")
}

fn inputs(name: &str) -> Vec<Vec<u8>> {
    let dir = fuzz().join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    let inputs: Vec<_> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    let bytes: usize = inputs.iter().map(Vec::len).sum();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    assert!(bytes <= 128 << 10, "{} has {bytes} bytes: keep it small", dir.display());
    inputs
}

fn replay(name: &str) {
    let check = named(name);
    (check.run)(&[]);
    for input in inputs(name) {
        (check.run)(&input);
        (check.run)(&input[..input.len() / 2]);
        let mut changed = input;
        for at in [0, changed.len() / 3, changed.len() / 2] {
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 0x41;
                (check.run)(&changed);
            }
        }
    }
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_check_has_a_target_and_a_test() {
            let tests = BTreeSet::from([$(stringify!($name)),*]);
            assert_eq!(tests, CHECKS.iter().map(|check| check.name).collect());
            let targets = fuzz().join("fuzz_targets");
            for name in tests {
                let text = fs::read_to_string(targets.join(format!("{name}.rs"))).expect("there");
                assert!(text.contains(&format!("fuzz::target!(\"{name}\")")), "{name}");
            }
        }
    };
}

replayed!(
    frame session sync record merkle list piece index advert ignore config pairing group envelope
    token window code ssh key connecto relay
);

//! The house itself: which crate may use which (ARCHITECTURE.md), and that rooms stay small.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests read this repository's own files, nobody's folder"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

/// From the bottom up: a crate may use those named with it, in what it ships.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("identity", &[]),
    ("wire", &["identity"]),
    ("group", &["identity", "wire"]),
    ("pairing", &["identity", "wire"]),
    ("tree", &["wire"]),
    ("link", &["identity", "wire"]),
    ("folder", &["identity", "wire", "tree"]),
    ("relay", &["identity", "wire", "tree"]),
    ("ssh", &["identity", "wire", "pairing", "tree", "link"]),
    ("node", &["identity", "wire", "group", "pairing", "tree", "link", "folder", "relay", "ssh"]),
    ("kin", &["identity", "wire", "tree", "link", "relay", "ssh", "node"]),
    ("sim", &["identity", "wire", "tree", "folder"]),
    ("checks", &["identity", "wire", "group", "pairing", "link", "folder", "ssh"]),
    ("lab", &[]),
    ("bench", &["lab", "identity", "wire", "relay"]),
];

/// Rules of the engine (E), of trust (T), attacks and faults of dsync: how many there are, and those that
/// need no test whose name begins with their number (`e13_`, `t3_`, `attack_08_`, `dsync_05_`).
const RULES: [(&str, u8, &[u8]); 4] = [
    ("e", 25, &[]),
    ("t", 24, &[]),
    // Numbers 36 and 42 are of many tests, with names of their own.
    ("attack_", 42, &[36, 42]),
    ("dsync_", 16, &[]),
];

/// No Rust file is longer, in lines.
const LONGEST: usize = 600;

fn repository() -> PathBuf {
    lab::files::package().join("../..")
}

fn manifests() -> BTreeMap<String, toml::Table> {
    let crates = fs::read_dir(repository().join("crates")).expect("there are crates");
    let mut dirs: Vec<PathBuf> = crates.map(|entry| entry.expect("readable").path()).collect();
    dirs.push(repository().join("bench"));
    dirs.into_iter()
        .filter_map(|dir| {
            let text = fs::read_to_string(dir.join("Cargo.toml")).ok()?;
            let name = dir.file_name()?.to_str()?.to_owned();
            Some((name, text.parse().expect("a manifest")))
        })
        .collect()
}

#[test]
fn crates_use_only_what_is_below_them() {
    let manifests = manifests();
    let known: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let ours: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(ours, known.keys().copied().collect(), "a crate without a place in the house");
    for (name, manifest) in &manifests {
        let Some(used) = manifest.get("dependencies").and_then(toml::Value::as_table) else {
            continue;
        };
        for dependency in used.keys().filter(|d| ours.contains(d.as_str())) {
            assert!(
                known[name.as_str()].contains(&dependency.as_str()),
                "{name} uses {dependency}"
            );
        }
    }
}

#[test]
fn every_crate_keeps_the_workspace_lints() {
    for (name, manifest) in manifests() {
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints.and_then(toml::Value::as_bool), Some(true), "{name}");
    }
}

/// All Rust files, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut dirs: Vec<_> = ["crates", "bench", "fuzz"].map(|dir| repository().join(dir)).into();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("readable");
                sources.push((path, text));
            }
        }
    }
    sources
}

#[test]
fn files_stay_small() {
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", path.display());
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < 300, "the median file has {median} lines");
}

/// The number in the name of a function that is about a rule: `e13_it_holds` is 13 of `e`.
fn numbers<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = u8> + 'a {
    let functions = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
    functions.filter_map(move |(_, rest)| {
        let (number, _) = rest.strip_prefix(prefix)?.split_once('_')?;
        number.parse().ok()
    })
}

#[test]
fn every_rule_has_a_test_that_names_it() {
    let sources = sources();
    for (prefix, last, without) in RULES {
        let named: BTreeSet<u8> =
            sources.iter().flat_map(|(_, text)| numbers(text, prefix)).collect();
        let bare: Vec<u8> =
            (1..=last).filter(|it| !named.contains(it) && !without.contains(it)).collect();
        assert!(bare.is_empty(), "no test's name begins with {prefix} and one of {bare:?}");
        let unknown: Vec<_> = named.iter().filter(|it| !(1..=last).contains(*it)).collect();
        assert!(unknown.is_empty(), "there is no rule {prefix} with one of {unknown:?}");
    }
}

/// The two-host tests are not found by the compiler: they must be listed.
#[test]
fn every_two_host_test_is_listed() {
    let dir = repository().join("crates/kin/tests/net");
    let main = fs::read_to_string(dir.join("main.rs")).expect("readable");
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with(&dir)) {
        let functions = text.lines().filter_map(|line| line.strip_prefix("pub(crate) fn "));
        for name in functions.filter_map(|rest| rest.strip_suffix("() {")) {
            let is_test = ["dsync_", "attack_"].iter().any(|it| name.starts_with(it));
            let listed = main.lines().any(|line| line.ends_with(&format!(" {name}")));
            assert!(!is_test || listed, "{} is not run: {}", name, path.display());
        }
    }
}

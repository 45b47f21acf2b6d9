//! The house itself: which crate may use which (ARCHITECTURE.md), and that rooms stay small.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests read this repository's own files, nobody's folder"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the bottom up: a crate may use those named with it, in what it ships.
const MAY_USE: [(&str, &[&str]); 12] = [
    ("identity", &[]),
    ("wire", &["identity"]),
    ("group", &["identity", "wire"]),
    ("pairing", &["identity", "wire"]),
    ("tree", &["wire"]),
    ("link", &["identity", "wire"]),
    ("folder", &["identity", "wire", "tree"]),
    ("node", &["identity", "wire", "group", "pairing", "tree", "link", "folder"]),
    ("kin", &["identity", "wire", "tree", "node"]),
    ("sim", &["identity", "wire", "tree", "folder"]),
    ("lab", &[]),
    ("bench", &["lab"]),
];

/// No Rust file is longer, in lines.
const LONGEST: usize = 600;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
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

#[test]
fn files_stay_small() {
    let mut lengths = Vec::new();
    let mut dirs = vec![repository().join("crates"), repository().join("bench")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let lines = fs::read_to_string(&path).expect("readable").lines().count();
                assert!(lines <= LONGEST, "{} has {lines} lines", path.display());
                lengths.push(lines);
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < 300, "the median file has {median} lines");
}

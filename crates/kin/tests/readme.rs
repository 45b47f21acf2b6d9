//! Every command in README.md is run by somebody: those of `kin` here, the others word for word by
//! `.ci/run`. A command that nobody runs is not in the README for long.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests read this repository's own files and play the person who owns the folder"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lab::{KinCommand, SHORT, eventually};

const KIN: &str = env!("CARGO_BIN_EXE_kin");

fn repository() -> PathBuf {
    lab::files::package().join("../..")
}

/// The lines of the blocks marked `sh`.
fn commands(markdown: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        match (inside, line.trim()) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, command) if !command.is_empty() => found.push(command.to_owned()),
            _ => {}
        }
    }
    found
}

/// The arguments for `kin` in a command that runs it, either way.
fn kin_arguments(command: &str) -> Option<Vec<&str>> {
    let rest = command.strip_prefix("cargo run --release -- ").or(command.strip_prefix("kin "))?;
    Some(rest.split(' ').collect())
}

/// Runs `kin` as the README says, at home in an empty directory with a folder `Shared`.
fn run(arguments: &[&str]) {
    let home = tempfile::tempdir().expect("a directory");
    let shared = home.path().join("Shared");
    fs::create_dir(&shared).expect("a directory");
    let shared = shared.to_str().expect("a plain path");
    // What the shell does with a tilde.
    let arguments: Vec<&str> =
        arguments.iter().map(|a| if *a == "~/Shared" { shared } else { a }).collect();
    let mut kin = KinCommand::local(Path::new(KIN), home.path(), &arguments).start();
    if arguments.contains(&"--once") {
        assert_eq!(kin.wait(SHORT).code(), Some(0), "{arguments:?}: {}", kin.stderr());
        return;
    }
    eventually("it has begun", || Path::new(shared).join(".kinignore").exists() || kin.has_ended());
    kin.stop();
}

#[test]
fn every_command_is_run() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is one");
    let ci = fs::read_to_string(repository().join(".ci/run")).expect("there is one");
    let by_ci: BTreeSet<&str> =
        ci.lines().filter_map(|line| line.split_once("readme '")?.1.strip_suffix('\'')).collect();
    let commands = commands(&readme);
    assert_eq!(commands[0], "cargo run --release -- sync ~/Shared", "the main job comes first");
    assert_eq!(commands.last().expect("some"), "cargo nextest run --workspace");
    for command in &commands {
        if let Some(arguments) = kin_arguments(command) {
            run(&arguments);
        } else {
            assert!(by_ci.contains(command.as_str()), "nobody runs `{command}`");
        }
    }
    for command in by_ci {
        assert!(commands.iter().any(|c| c == command), "not in the README: `{command}`");
    }
}

#[test]
fn the_test_command_is_the_last_thing_that_ci_does() {
    let ci = fs::read_to_string(repository().join(".ci/run")).expect("there is one");
    assert_eq!(ci.lines().last(), Some("readme 'cargo nextest run --workspace'"));
}

#[test]
fn every_file_the_documents_link_to_is_there() {
    for document in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
    {
        let text = fs::read_to_string(repository().join(document)).expect(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = link.0.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(repository().join(target).exists(), "{document} links to {target}");
        }
    }
}

#[test]
fn commands_are_found_in_their_blocks_only() {
    let text = "a\n```sh\nkin x\n\n  kin y\n```\nkin no\n```toml\nkin no\n```\n```sh\nz\n```\n";
    assert_eq!(commands(text), ["kin x", "kin y", "z"]);
    assert_eq!(kin_arguments("kin demo --once"), Some(vec!["demo", "--once"]));
    assert_eq!(
        kin_arguments("cargo run --release -- sync ~/Shared"),
        Some(vec!["sync", "~/Shared"])
    );
    assert_eq!(kin_arguments("cargo build"), None);
}

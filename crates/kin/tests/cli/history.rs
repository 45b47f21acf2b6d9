//! `kin history` and `kin restore` over a folder as a run leaves it.

use std::{fs, path::PathBuf};

use snapbox::str;

use crate::Home;

/// A folder that was synced, with two versions of a file, a deleted directory and a loser.
fn synced() -> Home {
    let home = Home::new();
    put(&home, ".kin/lock", "");
    put(&home, "docs/a.txt", "now");
    put(&home, ".kin/history/docs/a~20261101T080000000Z-00000001-replaced.txt", "first");
    put(&home, ".kin/history/docs/a~20261102T080000500Z-00000002-replaced.txt", "second");
    put(&home, ".kin/history/old/deep/b~20261103T080000000Z-00000003-deleted", "deleted");
    put(&home, ".kin/history/old/c~20261104T080000000Z-00000004-deleted.x", "also deleted");
    put(&home, ".kin/history/docs/l~20261105T080000000Z-00000005-conflict", "lost");
    put(&home, ".kin/history/mine.txt", "put here by hand");
    home
}

fn put(home: &Home, path: &str, text: &str) {
    let path = home.folder().join(path);
    fs::create_dir_all(path.parent().expect("is below the folder")).expect("there is room");
    fs::write(path, text).expect("there is room");
}

fn text(home: &Home, path: &str) -> String {
    fs::read_to_string(home.folder().join(path)).expect("is readable")
}

/// Runs `kin ARGS` in the zone of Kolkata, which no other test machine is in.
fn kin(home: &Home, args: &[&str]) -> snapbox::cmd::OutputAssert {
    home.kin().env("TZ", "IST-5:30").args(args).assert()
}

fn said(run: &snapbox::cmd::OutputAssert) -> String {
    String::from_utf8_lossy(&run.get_output().stderr).into_owned()
}

#[test]
fn history_is_listed_newest_first_and_nothing_is_changed() {
    let home = synced();
    let before = home.inventory();
    kin(&home, &["history", "folder"])
        .success()
        .stdout_eq(str![[r#"
2026-11-05 13:30:00 +05:30          4 B  conflict   docs/l
2026-11-04 13:30:00 +05:30         12 B  deleted    old/c.x
2026-11-03 13:30:00 +05:30          7 B  deleted    old/deep/b
2026-11-02 13:30:00 +05:30          6 B  replaced   docs/a.txt
2026-11-01 13:30:00 +05:30          5 B  replaced   docs/a.txt

"#]])
        .stderr_eq(str![[r#"
note: 1 other files in .kin/history have no names of kin's; they are left alone

"#]]);
    kin(&home, &["history", "folder", "docs/a.txt", "--json"]).success().stdout_eq(str![[r#"
{"event":"history","path":"docs/a.txt","time":"2026-11-02T08:00:00.500Z","size":6,"why":"replaced","file":".kin/history/docs/a~20261102T080000500Z-00000002-replaced.txt"}
{"event":"history","path":"docs/a.txt","time":"2026-11-01T08:00:00.000Z","size":5,"why":"replaced","file":".kin/history/docs/a~20261101T080000000Z-00000001-replaced.txt"}

"#]]).stderr_eq("");
    kin(&home, &["history", "folder", "./old/deep/"]).success().stdout_eq(str![[r#"
2026-11-03 13:30:00 +05:30          7 B  deleted    old/deep/b

"#]]);
    kin(&home, &["history", "folder", "docs/none"]).success().stdout_eq("").stderr_eq(str![[r#"
Nothing of docs/none is in history.

"#]]);
    assert_eq!(home.inventory(), before, "something was created");
}

#[test]
fn the_newest_version_comes_back_and_what_was_there_goes_to_history() {
    let home = synced();
    let run = kin(&home, &["restore", "folder", "docs/a.txt"]).success().stdout_eq("");
    assert_eq!(
        said(&run),
        "docs/a.txt is back, as it was replaced at 2026-11-02 13:30:00 +05:30. What was there is in history.\n"
    );
    assert_eq!(text(&home, "docs/a.txt"), "second");
    let kept: Vec<PathBuf> = fs::read_dir(home.folder().join(".kin/history/docs"))
        .expect("is readable")
        .map(|entry| entry.expect("is readable").path())
        .collect();
    let now = kept.iter().filter(|path| fs::read_to_string(path).is_ok_and(|text| text == "now"));
    assert_eq!((kept.len(), now.count()), (4, 1), "{kept:?}");
    assert!(
        fs::read_dir(home.folder().join(".kin/restore")).expect("is readable").next().is_none()
    );
}

#[test]
fn a_time_picks_what_was_there_then() {
    let at = |time: &str, there: &str| {
        let home = synced();
        kin(&home, &["restore", "folder", "docs/a.txt", "--at", time]).success();
        assert_eq!(text(&home, "docs/a.txt"), there, "{time}");
    };
    at("2026-11-01 13:30:00 +05:30", "first");
    at("2026-11-01T08:00:00Z", "first");
    at("2026-11-01", "first");
    at("2026-11-01 13:30:01", "second");
    at("2026-11-02 13:30", "second");
    let home = synced();
    let run = kin(&home, &["restore", "folder", "docs/a.txt", "--at", "2026-11-03", "--json"]);
    run.code(1).stdout_eq(str![[r#"
{"event":"error","kind":"no_version","message":"docs/a.txt: nothing of it went to history since then, the last at 2026-11-02 13:30:00 +05:30","hint":"what is in the folder is what was there then; leave out --at for the newest version"}

"#]]);
    assert_eq!(text(&home, "docs/a.txt"), "now");
}

#[test]
fn a_version_goes_to_another_place_with_its_mode_and_time() {
    let home = synced();
    let old = home.folder().join(".kin/history/docs/a~20261102T080000500Z-00000002-replaced.txt");
    let file = fs::File::options().write(true).open(&old).expect("is there");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    file.set_modified(time).expect("can be set");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&old, mode(0o640)).expect("can be set");
    kin(&home, &["restore", "folder", "docs/a.txt", "--to", "new/dir/b.txt"]).success();
    let restored = fs::metadata(home.folder().join("new/dir/b.txt")).expect("is there");
    assert_eq!(restored.modified().expect("has one"), time);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&restored.permissions()) & 0o777, 0o640);
    assert_eq!(text(&home, "docs/a.txt"), "now");
    assert!(old.exists(), "the version stays in history");
    // Once more: it is there already.
    let run = kin(&home, &["restore", "folder", "docs/a.txt", "--to", "new/dir/b.txt"]).success();
    assert!(said(&run).contains("already; nothing was changed"), "{}", said(&run));
}

#[test]
fn a_directory_comes_back_without_what_is_there() {
    let home = synced();
    put(&home, "old/c.x", "made anew");
    kin(&home, &["restore", "folder", "old", "--json"]).success().stdout_eq(str![[r#"
{"event":"restored","path":"old/deep/b","time":"2026-11-03T08:00:00.000Z","size":7,"why":"deleted","changed":true}
{"event":"skipped","path":"old/c.x","reason":"is in the folder now and stays; to get the older version, name it"}

"#]]);
    assert_eq!(
        (text(&home, "old/deep/b"), text(&home, "old/c.x")),
        ("deleted".into(), "made anew".into())
    );
    // Elsewhere, and only what was there at that time.
    kin(&home, &["restore", "folder", ".", "--to", "all", "--at", "2026-11-04"]).success();
    assert_eq!(text(&home, "all/old/c.x"), "also deleted");
    assert!(!home.folder().join("all/old/deep").exists());
}

#[test]
fn a_file_comes_back_beside_the_directory_in_its_place() {
    let home = synced();
    put(&home, "old/c.x/inside", "theirs");
    let run = kin(&home, &["restore", "folder", "old/c.x"]).code(2);
    assert!(said(&run).starts_with("error: old/c.x is a directory\nhint: "), "{}", said(&run));
    kin(&home, &["restore", "folder", "old/c.x", "--to", "c"]).success();
    assert_eq!(
        (text(&home, "c"), text(&home, "old/c.x/inside")),
        ("also deleted".into(), "theirs".into())
    );
}

#[test]
fn a_link_comes_back_as_a_link() {
    let home = synced();
    let entry = ".kin/history/ln~20261102T080000500Z-00000002-deleted";
    std::os::unix::fs::symlink("/etc/passwd", home.folder().join(entry)).expect("there is room");
    kin(&home, &["restore", "folder", "ln"]).success();
    let target = fs::read_link(home.folder().join("ln")).expect("is a link");
    assert_eq!(target, PathBuf::from("/etc/passwd"));
}

#[test]
fn links_in_history_and_in_the_folder_lead_nowhere() {
    let home = synced();
    let outside = home.path().join("outside");
    fs::create_dir(&outside).expect("there is room");
    fs::write(outside.join("s~20261102T080000500Z-00000002-deleted"), "secret")
        .expect("there is room");
    let link = |at: &str| {
        std::os::unix::fs::symlink(&outside, home.folder().join(at)).expect("there is room");
    };
    link(".kin/history/in");
    link("out");
    let run = kin(&home, &["history", "folder"]).success();
    assert!(!String::from_utf8_lossy(&run.get_output().stdout).contains("in/s"));
    kin(&home, &["restore", "folder", "in/s"]).code(1);
    kin(&home, &["restore", "folder", "docs/a.txt", "--to", "out/a.txt"]).code(2);
    assert_eq!(fs::read_dir(&outside).expect("is readable").count(), 1, "something went outside");
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_changed() {
    let home = synced();
    fs::create_dir(home.path().join("never")).expect("there is room");
    fs::create_dir_all(home.folder().join("sub")).expect("there is room");
    let before = home.inventory();
    for (args, code, error) in [
        (&["history", "missing"][..], 2, "missing does not exist"),
        (&["history", "never"], 2, "never has no .kin: it was never synced"),
        (&["restore", "never", "a"], 2, "never has no .kin: it was never synced"),
        (&["history", "folder/sub"], 2, "folder/sub: it lies inside the folder "),
        (&["history", "folder", "/etc"], 2, "PATH: \"/etc\" is an absolute path"),
        (&["history", "folder", "../x"], 2, "PATH: \"../x\" leads out of the folder"),
        (&["restore", "folder", "a/../b"], 2, "PATH: \"a/../b\" leads out of the folder"),
        (&["restore", "folder", ".kin/lock"], 2, "PATH: \".kin/lock\" is kin's own"),
        (
            &["restore", "folder", "docs/a.txt", "--to", ".kin/x"],
            2,
            "--to: \".kin/x\" is kin's own",
        ),
        (
            &["restore", "folder", "docs/a.txt", "--to", "/tmp/x"],
            2,
            "--to: \"/tmp/x\" is an absolute path",
        ),
        (&["restore", "folder", "docs/a.txt", "--to", "docs"], 2, "docs is a directory"),
        (
            &["restore", "folder", "docs/a.txt", "--to", "docs/a.txt/x"],
            2,
            "docs/a.txt/x: docs/a.txt is not a directory",
        ),
        (&["restore", "folder", "docs/a.txt", "--at", "soon"], 2, "--at: \"soon\" is not a time"),
        (&["restore", "folder", "none"], 1, "none: nothing of it is in history"),
        (&["restore", "folder", "sub"], 1, "sub: nothing of it is in history"),
        (&["restore", "folder", "mine.txt"], 1, "mine.txt: nothing of it is in history"),
        (&["restore", "folder", "\x1b[2J"], 1, "\\u{1b}[2J: nothing of it is in history"),
    ] {
        let run = kin(&home, args).code(code).stdout_eq("");
        let stderr = said(&run);
        assert!(stderr.starts_with(&format!("error: {error}")), "{args:?}: {stderr}");
        assert!(stderr.contains("\nhint: "), "{args:?}: {stderr}");
    }
    assert_eq!(home.inventory(), before, "something was changed");
}

//! Edits that fall between two calls of an operation (rule E13): none is lost, none is overwritten.

use std::{fs, io};

use rustix::io::Errno;
use tree::{
    Disk, Place, Stat,
    apply::{self, ApplyError, Expected},
    contract::Subject,
};
use wire::RelPath;

use crate::{
    meddler::{Meddler, When},
    user::User,
};

const STAGED: Place = Place::Swap(1);

fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("a valid path")
}

fn stat_of(user: &User, path: &str) -> Stat {
    let place = Place::Tree(rel(path));
    user.disk().stat(&place).expect("stat").expect("something is there")
}

/// A folder with the file `f` ("old"), and "incoming" staged for it.
fn folder(user: User) -> (User, Stat) {
    user.write("f", b"old");
    let file = user.disk().open_own(&STAGED).expect("open own");
    file.write_at(b"incoming", 0).expect("write");
    let stat = stat_of(&user, "f");
    (user, stat)
}

fn both_kinds() -> [(User, Stat); 2] {
    [folder(User::new()), folder(User::on_an_older_system())]
}

fn own(user: &User, place: &Place) -> Option<Vec<u8>> {
    let file = user.disk().open(place).ok()?;
    let mut bytes = vec![0; 64];
    let read = file.read_at(&mut bytes, 0).expect("read");
    bytes.truncate(read);
    Some(bytes)
}

/// The call in which `replace` takes the old file out.
fn taking_out(user: &User) -> &'static str {
    if user.exchanges() { "exchange" } else { "rename_new" }
}

fn kept(error: &ApplyError) -> Option<Place> {
    match error {
        ApplyError::Changed { kept_at, .. } => kept_at.clone(),
        other => panic!("{other:?} instead of Changed"),
    }
}

#[test]
fn e13_save_by_rename_before_the_swap_survives() {
    for (user, stat) in both_kinds() {
        let disk = Meddler::new(user.disk())
            .on(When::Before, taking_out(&user), 0, || user.save("f", b"an edit"));
        let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
        disk.assert_done();
        assert_eq!(kept(&error.expect_err("changed")), None);
        assert_eq!(user.read("f").expect("there"), b"an edit");
        assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");
        assert_eq!(user.all_files(), [".kin/swap/0000000000000001", "f"]);
    }
}

#[test]
fn e13_write_in_place_before_the_swap_survives() {
    for (user, stat) in both_kinds() {
        let disk = Meddler::new(user.disk())
            .on(When::Before, taking_out(&user), 0, || user.write("f", b"longer than it was"));
        let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
        assert_eq!(kept(&error.expect_err("changed")), None);
        assert_eq!(user.read("f").expect("there"), b"longer than it was");
        assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");
    }
}

#[test]
fn e13_removal_before_the_swap_is_a_change() {
    for (user, stat) in both_kinds() {
        let disk =
            Meddler::new(user.disk()).on(When::Before, taking_out(&user), 0, || user.remove("f"));
        let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
        assert_eq!(kept(&error.expect_err("changed")), None);
        assert_eq!(user.read("f"), None);
        assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");
    }
}

#[test]
fn e13_an_edit_on_each_side_of_the_swap_survives() {
    // The user saved before the swap, and edited what they saw after it, before it was put back.
    let (user, stat) = folder(User::new());
    let disk = Meddler::new(user.disk())
        .on(When::Before, "exchange", 0, || user.save("f", b"first edit"))
        .on(When::Before, "exchange", 1, || user.write("f", b"second, of the incoming one"));
    let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
    disk.assert_done();
    assert_eq!(kept(&error.expect_err("changed")), Some(STAGED));
    assert_eq!(user.read("f").expect("there"), b"first edit");
    assert_eq!(own(&user, &STAGED).expect("there"), b"second, of the incoming one");

    // The same, but they removed what they saw.
    let (user, stat) = folder(User::new());
    let disk = Meddler::new(user.disk())
        .on(When::Before, "exchange", 0, || user.save("f", b"first edit"))
        .on(When::Before, "exchange", 1, || user.remove("f"));
    let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
    disk.assert_done();
    assert_eq!(kept(&error.expect_err("changed")), None);
    assert_eq!(user.read("f").expect("there"), b"first edit");
}

#[test]
fn e13_an_edit_after_the_swap_is_not_taken_for_ours() {
    for (user, stat) in both_kinds() {
        // The staged one's stat, the one before (in steps: twice), the one after, the one read back.
        let read_back = if user.exchanges() { 3 } else { 4 };
        let disk = Meddler::new(user.disk())
            .on(When::Before, "stat", read_back, || user.save("f", b"an edit"));
        let now = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
        disk.assert_done();
        assert!(!now.expect("replaced").same_contents(&stat_of(&user, "f")));
        assert_eq!(user.read("f").expect("there"), b"an edit");
        assert_eq!(own(&user, &STAGED).expect("there"), b"old");
    }
    let (user, _) = folder(User::new());
    let disk =
        Meddler::new(user.disk()).on(When::Before, "stat", 1, || user.write("g", b"an edit"));
    let now = apply::place_new(&disk, &STAGED, &rel("g")).expect("placed");
    disk.assert_done();
    assert!(!now.same_contents(&stat_of(&user, "g")));
}

#[test]
fn e13_a_name_taken_while_the_old_file_is_out_keeps_both() {
    let (user, stat) = folder(User::on_an_older_system());
    let disk = Meddler::new(user.disk())
        .on(When::After, "rename_new", 0, || user.write("f", b"a new file"));
    let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
    disk.assert_done();
    let aside = apply::aside_of(&STAGED, &rel("f"));
    assert_eq!(kept(&error.expect_err("changed")), Some(aside.clone()));
    assert_eq!(user.read("f").expect("there"), b"a new file");
    assert_eq!(own(&user, &aside).expect("kept"), b"old");
    assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");
}

#[test]
fn e13_remove_puts_an_edit_back() {
    for (user, stat) in both_kinds() {
        let disk = Meddler::new(user.disk())
            .on(When::Before, "rename_new", 0, || user.save("f", b"an edit"));
        let into = Place::Swap(2);
        let error = apply::remove(&disk, &rel("f"), &Expected::stat(stat), &into);
        assert_eq!(kept(&error.expect_err("changed")), None);
        assert_eq!(user.read("f").expect("there"), b"an edit");
        assert_eq!(own(&user, &into), None);
    }
}

#[test]
fn e13_remove_keeps_an_edit_whose_name_was_taken() {
    for (user, stat) in both_kinds() {
        let disk = Meddler::new(user.disk())
            .on(When::Before, "rename_new", 0, || user.save("f", b"an edit"))
            .on(When::After, "rename_new", 0, || user.write("f", b"another"));
        let into = Place::Swap(2);
        let error = apply::remove(&disk, &rel("f"), &Expected::stat(stat), &into);
        disk.assert_done();
        assert_eq!(kept(&error.expect_err("changed")), Some(into.clone()));
        assert_eq!(user.read("f").expect("there"), b"another");
        assert_eq!(own(&user, &into).expect("kept"), b"an edit");
    }
}

#[test]
fn e13_a_directory_that_took_the_name_is_put_back_whole() {
    let (user, stat) = folder(User::new());
    let swap_in = || {
        user.remove("f");
        user.mkdir("f/sub");
        user.write("f/sub/g", b"inside");
    };
    let disk = Meddler::new(user.disk()).on(When::Before, "exchange", 0, swap_in);
    let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
    assert_eq!(kept(&error.expect_err("changed")), None);
    assert_eq!(user.read("f/sub/g").expect("there"), b"inside");
    assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");
}

#[test]
fn e13_move_aside_puts_an_edit_back() {
    let (user, stat) = folder(User::new());
    let disk =
        Meddler::new(user.disk()).on(When::Before, "rename_new", 0, || user.save("f", b"an edit"));
    let error = apply::move_aside(&disk, &rel("f"), &Expected::stat(stat), &rel("copy"));
    assert_eq!(kept(&error.expect_err("changed")), None);
    assert_eq!(user.read("f").expect("there"), b"an edit");
    assert_eq!(user.read("copy"), None);

    let disk = Meddler::new(user.disk())
        .on(When::Before, "rename_new", 0, || user.save("f", b"yet another"))
        .on(When::After, "rename_new", 0, || user.write("f", b"a third"));
    let stat = stat_of(&user, "f");
    let error = apply::move_aside(&disk, &rel("f"), &Expected::stat(stat), &rel("copy"));
    assert_eq!(kept(&error.expect_err("changed")), Some(Place::Tree(rel("copy"))));
    assert_eq!(user.read("copy").expect("kept"), b"yet another");
}

#[test]
fn e13_a_mode_and_time_meant_for_another_file_are_not_set() {
    let (user, stat) = folder(User::new());
    let disk =
        Meddler::new(user.disk()).on(When::Before, "set_meta", 0, || user.save("f", b"an edit"));
    let error = apply::set_meta_checked(&disk, &rel("f"), &Expected::stat(stat), 0o600, Some(1));
    assert_eq!(kept(&error.expect_err("changed")), None);
    assert_ne!(stat_of(&user, "f").mtime, 1);

    // Written in place: the size tells, or else the contents do.
    for edit in ["longer", "OLD"] {
        let stat = stat_of(&user, "f");
        let length = stat.size;
        let disk = Meddler::new(user.disk())
            .on(When::Before, "set_meta", 0, || user.write("f", edit.as_bytes()));
        let verify = |disk: &dyn Disk, at: &Place| {
            let mut bytes = [0; 16];
            let read = disk.open(at)?.read_at(&mut bytes, 0)?;
            io::Result::Ok(read as u64 == length && &bytes[..read] != edit.as_bytes())
        };
        let expected = Expected { stat, verify: Some(&verify) };
        let error = apply::set_meta_checked(&disk, &rel("f"), &expected, 0o600, Some(1));
        assert_eq!(kept(&error.expect_err("changed")), None);
    }
}

#[test]
fn errors_of_the_disk_are_told_apart_and_change_nothing() {
    let (user, stat) = folder(User::new());
    let replace = |error: Errno| {
        let disk = Meddler::new(user.disk()).fail("exchange", 0, error.raw_os_error());
        let result = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
        disk.assert_done();
        result.expect_err("an error")
    };
    assert!(matches!(replace(Errno::NOSPC), ApplyError::NoSpace { .. }));
    assert!(matches!(replace(Errno::DQUOT), ApplyError::NoSpace { .. }));
    assert!(matches!(replace(Errno::ROFS), ApplyError::ReadOnly { .. }));
    assert!(matches!(replace(Errno::MFILE), ApplyError::TooManyOpen { .. }));
    assert!(matches!(replace(Errno::NFILE), ApplyError::TooManyOpen { .. }));
    assert!(matches!(replace(Errno::NOTDIR), ApplyError::Vanished { .. }));
    assert!(matches!(replace(Errno::IO), ApplyError::Io { .. }));
    assert!(matches!(replace(Errno::ACCESS), ApplyError::Io { .. }));
    assert_eq!(replace(Errno::IO).path(), &rel("f"));
    assert_eq!(user.read("f").expect("there"), b"old");
    assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");

    // The verdict after the swap cannot be had: the old file is put back.
    let disk = Meddler::new(user.disk()).fail("stat", 2, Errno::IO.raw_os_error());
    let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
    assert!(matches!(error, Err(ApplyError::Io { .. })), "{error:?}");
    disk.assert_done();
    assert_eq!(user.read("f").expect("there"), b"old");
    assert_eq!(own(&user, &STAGED).expect("there"), b"incoming");

    // Without EXCHANGE the new one does not get in: the old one is put back.
    let (user, stat) = folder(User::on_an_older_system());
    let disk = Meddler::new(user.disk()).fail("rename_new", 1, Errno::NOSPC.raw_os_error());
    let error = apply::replace(&disk, &STAGED, &rel("f"), &Expected::stat(stat));
    assert!(matches!(error, Err(ApplyError::NoSpace { .. })), "{error:?}");
    assert_eq!(user.all_files(), [".kin/swap/0000000000000001", "f"]);
    assert_eq!(user.read("f").expect("there"), b"old");
}

#[test]
fn e14_nothing_is_left_outside_kin() {
    for (user, stat) in both_kinds() {
        let now = apply::replace(user.disk(), &STAGED, &rel("f"), &Expected::stat(stat));
        let moved = apply::move_aside(
            user.disk(),
            &rel("f"),
            &Expected::stat(now.expect("replaced")),
            &rel("g"),
        );
        let expected = Expected::stat(moved.expect("moved"));
        apply::remove(user.disk(), &rel("g"), &expected, &Place::Swap(2)).expect("removed");
        let files = [".kin/swap/0000000000000001", ".kin/swap/0000000000000002"];
        assert_eq!(user.all_files(), files);
        let names: Vec<_> = fs::read_dir(user.path("")).expect("read_dir").collect();
        assert_eq!(names.len(), 1);
    }
}

//! Small files and copies outside of folders.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, SystemTime},
};

use tree::{FileError, TempDir, copy_tree, read_config, read_secret_file};

#[test]
fn config_files_are_bounded_text() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("kin.toml");
    assert!(matches!(read_config(&path, 10), Err(FileError::NotFound(_))));
    fs::write(&path, "port = 1\n").expect("write");
    assert_eq!(read_config(&path, 9).expect("read"), "port = 1\n");
    assert!(matches!(read_config(&path, 8), Err(FileError::TooLarge { limit: 8, .. })));
    fs::write(&path, b"\xff").expect("write");
    assert!(matches!(read_config(&path, 8), Err(FileError::NotUtf8(_))));
    assert!(matches!(read_config(dir.path(), 8), Err(FileError::NotAFile(_))));
}

#[test]
fn a15_secret_files_are_closed_to_others() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("secret");
    fs::write(&path, "correct horse\n").expect("write");
    let with_mode = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        read_secret_file(&path)
    };
    assert_eq!(with_mode(0o600).expect("read"), b"correct horse\n");
    for mode in [0o640, 0o604, 0o622] {
        let open = with_mode(mode);
        assert!(matches!(open, Err(FileError::OpenToOthers { .. })), "{open:?}");
    }
    fs::write(&path, [b'x'; 4097]).expect("write");
    assert!(matches!(with_mode(0o600), Err(FileError::TooLarge { .. })));
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600))
        .expect("mkfifo");
    assert!(matches!(read_secret_file(&fifo), Err(FileError::NotAFile(_))));
}

#[test]
fn a_tree_is_copied_with_modes_times_and_links() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).expect("mkdir");
    fs::create_dir(from.join(".kin")).expect("mkdir");
    fs::write(from.join("sub/f"), vec![7; 300_000]).expect("write");
    fs::write(from.join("zero"), b"").expect("write");
    symlink("sub/f", from.join("link")).expect("symlink");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        from.join("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .expect("mkfifo");
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(from.join("sub/f")).and_then(|f| f.set_modified(time)).expect("set time");
    fs::set_permissions(from.join("sub/f"), fs::Permissions::from_mode(0o640)).expect("chmod");
    fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o555)).expect("chmod");

    let temporary = TempDir::create("kin-test").expect("make");
    let to = temporary.path().join("copy");
    let copied = copy_tree(&from, &to).expect("copy");
    assert_eq!((copied.files, copied.bytes, copied.skipped), (2, 300_000, 1));
    assert_eq!(fs::read(to.join("sub/f")).expect("read"), vec![7; 300_000]);
    let meta = fs::metadata(to.join("sub/f")).expect("stat");
    assert_eq!((meta.permissions().mode() & 0o777, meta.modified().expect("time")), (0o640, time));
    let mode = fs::metadata(to.join("sub")).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
    assert_eq!(fs::read_link(to.join("link")).expect("link"), std::path::Path::new("sub/f"));
    assert!(to.join("sub/empty").is_dir() && to.join("zero").is_file());
    assert!(!to.join(".kin").exists() && !to.join("fifo").exists());

    let again = copy_tree(&from, &to).expect_err("not empty");
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    let inside = copy_tree(&from, &from.join("inside")).expect_err("its own copy");
    assert_eq!(inside.kind(), std::io::ErrorKind::InvalidInput);
    assert!(!from.join("inside").exists());
    let path = temporary.path().to_owned();
    temporary.remove().expect("remove");
    assert!(!path.exists());
    fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn a_temporary_directory_goes_unless_it_is_kept() {
    let dir = TempDir::create("kin-test").expect("make");
    let path = dir.path().to_owned();
    let mode = fs::metadata(&path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(dir);
    assert!(!path.exists());
    let kept = TempDir::create("kin-test").expect("make").keep();
    assert!(kept.is_dir());
    fs::remove_dir(kept).expect("remove");
}

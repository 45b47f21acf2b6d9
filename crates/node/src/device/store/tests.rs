use tempfile::tempdir;

use super::*;

#[test]
fn what_was_put_is_there_after_opening_again() {
    let top = tempdir().unwrap();
    let path = top.path().join("state.db");
    let mut store = Store::open(&path).unwrap();
    let group = GroupId([1; 32]);
    store.add_group(group, "home", std::iter::empty(), None).unwrap();
    let folder = StoredFolder {
        group,
        folder: FolderId([2; 32]),
        dir: PathBuf::from(OsString::from_vec(b"/tmp/\xff name".to_vec())),
        mode: FolderMode::Receive,
        paused: true,
        joined: [9; 16],
    };
    store.put_folder(&folder).unwrap();
    let join = StoredJoin {
        device: DeviceId([3; 32]),
        name: "nas".into(),
        kind: JoinKind::Code,
        group: Some(group),
        role: Role::Reader,
        folders: Scope::List(vec![FolderId([4; 32]), FolderId([5; 32])]),
        since: 7,
        state: vec![1, 2, 3],
    };
    store.put_join(&join).unwrap();
    let place = Place { last_seen: Some(9), addresses: vec!["[fe80::1]:9".parse().unwrap()] };
    store.put_place(&DeviceId([3; 32]), &place).unwrap();
    store.set("name", b"x").unwrap();
    drop(store);

    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.groups().unwrap(), [(group, "home".to_owned())]);
    assert_eq!(store.folders().unwrap(), std::slice::from_ref(&folder));
    assert_eq!(store.joins().unwrap(), std::slice::from_ref(&join));
    assert_eq!(store.places().unwrap(), [(DeviceId([3; 32]), place)]);
    assert_eq!(store.setting("name").unwrap().unwrap(), b"x");
    // A group that came by a join ends it, and takes its folders with it when it goes.
    let other = GroupId([6; 32]);
    store.add_group(other, "work", std::iter::empty(), Some(&join.device)).unwrap();
    assert!(store.joins().unwrap().is_empty());
    store.remove_group(group).unwrap();
    assert!(store.folders().unwrap().is_empty());
}

#[test]
fn t21_numbers_of_letters_go_up_over_restarts() {
    let top = tempdir().unwrap();
    let path = top.path().join("state.db");
    let (a, b) = (DeviceId([1; 32]), DeviceId([2; 32]));
    let store = Store::open(&path).unwrap();
    assert_eq!(store.next_letter(&a, 0).unwrap(), 1);
    assert_eq!(store.next_letter(&a, 0).unwrap(), 2);
    store.took_letter(&a, 9).unwrap();
    store.took_letter(&a, 5).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.heard_letter(&a).unwrap(), 9);
    assert_eq!(store.next_letter(&a, 0).unwrap(), 3, "what was heard is no number of ours");
    assert_eq!(store.next_letter(&a, 50).unwrap(), 50);
    assert_eq!(store.next_letter(&a, 20).unwrap(), 51, "the clock went back");
    assert_eq!((store.next_letter(&b, 0).unwrap(), store.heard_letter(&b).unwrap()), (1, 0));
}

#[test]
fn a_newer_file_is_left_alone() {
    let top = tempdir().unwrap();
    let path = top.path().join("state.db");
    drop(Store::open(&path).unwrap());
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(db);
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 99, .. })));
}

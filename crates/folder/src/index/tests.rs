//! Both indexes against each other and against sums made anew.

use std::collections::BTreeSet;

use identity::DeviceId;
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
};
use rusqlite::Connection;
use tempfile::TempDir;
use wire::version::ReplicaId;

use super::*;
use crate::content::{Chunk, MIN_CHUNK};

#[derive(Clone, Debug)]
enum Op {
    Put(RelPath, Row),
    Chunks(u8),
    Intent(Intent),
    NoIntent(RelPath),
    Meta(u8, Vec<u8>),
    Seal(u8, BTreeSet<u8>),
    Unseal(u8),
    Commit,
    /// Both are dropped and opened again: what was not committed is gone.
    Reopen,
}

fn path() -> impl Strategy<Value = RelPath> {
    "[ab](/[ab-]){0,2}".prop_map(|path| RelPath::parse(&path).expect("matches the pattern"))
}

/// Few contents and inodes, so that they meet.
fn row() -> impl Strategy<Value = Row> {
    let known = (0u8..40, vec(any::<u8>(), 0..20))
        .prop_map(|(seed, bytes)| Known { bytes: bytes.into(), hash: Hash::of(&[seed]) });
    let here = (0u64..3, 0u8..4, 1u64..4, 0u32..8).prop_map(|(size, content, inode, kind)| {
        let kind = match kind {
            0 => FileKind::Dir,
            1 => FileKind::Symlink,
            _ => FileKind::File,
        };
        let mut base = VersionVector::new();
        base.add(Dot { replica: ReplicaId(inode), counter: size + 1 });
        Here {
            stat: Stat { kind, size, mtime: -1, ctime: 7, inode, mode: 0o640 },
            content: (kind == FileKind::File).then(|| list(content).content()),
            target: (kind == FileKind::Symlink).then(|| "../x".to_owned()),
            base,
            shown: 0,
            content_dot: None,
            racy: size == 1,
            implied: false,
        }
    });
    (vec(known.clone(), 0..3), option::of(here), option::weighted(0.2, known))
        .prop_map(|(known, here, local)| Row { known, local, here })
}

/// A list with a chunk of its own and one that all share.
fn list(number: u8) -> ChunkList {
    let mut chunks = vec![Chunk { hash: Hash::of(b"shared"), len: MIN_CHUNK }; 15];
    chunks.push(Chunk { hash: Hash::of(&[number]), len: MIN_CHUNK + u32::from(number) });
    ChunkList::new(chunks).expect("in bounds")
}

fn op() -> impl Strategy<Value = Op> {
    let intent = (path(), any::<u64>(), any::<[u8; 32]>(), 0u8..3).prop_map(
        |(path, swap, content, kind)| {
            let kinds =
                [IntentKind::Create, IntentKind::Replace, IntentKind::Delete, IntentKind::Meta];
            Op::Intent(Intent {
                path,
                swap,
                content: Hash(content),
                kind: kinds[usize::from(kind)],
            })
        },
    );
    prop_oneof![
        12 => (path(), row()).prop_map(|(path, row)| Op::Put(path, row)),
        3 => path().prop_map(|path| Op::Put(path, Row::default())),
        3 => (0u8..4).prop_map(Op::Chunks),
        1 => intent,
        1 => path().prop_map(Op::NoIntent),
        1 => (0u8..3, vec(any::<u8>(), 0..9)).prop_map(|(key, value)| Op::Meta(key, value)),
        4 => (0u8..3, btree_set(0u8..40, 0..6)).prop_map(|(author, of)| Op::Seal(author, of)),
        1 => (0u8..40).prop_map(Op::Unseal),
        2 => Just(Op::Commit),
        1 => Just(Op::Reopen),
    ]
}

/// Everything that can be asked of an index, but for where a chunk lies, which may be any of its places.
fn observe(index: &mut dyn Index) -> Result<String, IndexError> {
    let paths: Vec<RelPath> = ["a", "b"]
        .iter()
        .flat_map(|first| ["", "/a", "/b", "/-"].map(|next| format!("{first}{next}")))
        .flat_map(|two| ["", "/a", "/b", "/-"].map(|next| format!("{two}{next}")))
        .filter_map(|path| RelPath::parse(&path).ok())
        .collect();
    let mut seen = format!("{:?}\n", index.totals());
    for path in paths.iter().chain([&RelPath::root()]) {
        let row = index.row(path)?;
        let (children, any) = (index.children(path)?, index.has_children(path)?);
        assert_eq!(children.is_empty(), !any);
        let mut last = None;
        while let Some(below) = index.next_dir_below(path, last.as_ref())? {
            assert!(path.contains(&below) && index.has_children(&below)?);
            assert!(last.is_none_or(|last| last.as_str() < below.as_str()));
            seen += &format!("{below} ");
            last = Some(below);
        }
        assert_eq!(index.has_any_below(path)?, any || last.is_some());
        let bucket = bucket_of(path);
        let prints = (index.fingerprint(12, bucket), index.fingerprint(6, bucket >> 6));
        seen += &format!("{path} {row:?}\n{children:?}\n{:?} {prints:?}\n", index.bucket(bucket)?);
    }
    for number in 0..4 {
        let list = list(number);
        let content = list.content();
        let kept = index.chunks(&content)?;
        assert!(kept.is_none() || kept.as_ref() == Some(&list));
        let own = list.chunks()[15].hash;
        let inode = index.by_inode(u64::from(number))?;
        seen += &format!("{:?}", [0, 1, 2].map(|n| index.has_more_than(&content, n).ok()));
        seen += &format!("{:?} {inode:?}\n{kept:?}\n", index.by_content(&content)?);
        seen += &format!("{:?}\n", index.chunk_source(&own)?);
    }
    if let Some(source) = index.chunk_source(&Hash::of(b"shared"))? {
        let list = index.chunks(&source.content)?.expect("its list is kept");
        assert!(
            list.iter().any(|(offset, chunk)| (offset, chunk.len) == (source.offset, source.len))
        );
        seen += "shared";
    }
    seen += &format!("{:?} {:?}\n", index.fingerprint(0, 0), index.intents()?);
    seen += &format!("{:?} {:?}\n", index.locals()?, index.sealers()?);
    for number in 0..40u8 {
        let record = Hash::of(&[number]);
        for sealed in index.sealed(&record)? {
            // How an index numbers them is its own affair.
            let seal = index.seal(sealed.seal)?.expect("as long as it lists something known");
            assert_eq!(seal.author, sealed.author);
            let proof = seal.proof(sealed.place);
            let Lists::Whole(leaves) = &seal.lists else { panic!("{seal:?}") };
            assert_eq!(leaves[sealed.place as usize], record);
            seen += &format!("{number} {seal:?} {proof:?}\n");
        }
    }
    for key in ["0", "1", "2"] {
        seen += &format!("{:?}", index.meta(key)?);
    }
    Ok(seen)
}

/// The fingerprint of everything, made anew from the buckets.
fn recomputed(index: &mut dyn Index) -> Fingerprint {
    let mut sums = sums::Sums::default();
    for bucket in 0..wire::sync::BUCKETS {
        for (path, known) in index.bucket(bucket).expect("readable") {
            assert_eq!(bucket_of(&path), bucket);
            sums.change(bucket, &[], &known);
        }
    }
    sums.fingerprint(0, 0)
}

fn apply(index: &mut dyn Index, op: &Op) -> Result<(), IndexError> {
    match op {
        Op::Put(path, row) => index.put(path, row),
        Op::Chunks(number) => {
            let list = list(*number);
            index.put_chunks(&list.content(), &list)
        }
        Op::Intent(intent) => index.put_intents(std::slice::from_ref(intent)),
        Op::NoIntent(path) => index.clear_intent(path),
        Op::Meta(key, value) => index.put_meta(&key.to_string(), value),
        Op::Seal(author, of) => {
            let records: Vec<_> = of.iter().zip(0..).map(|(n, at)| (Hash::of(&[*n]), at)).collect();
            let leaves = records.iter().map(|(record, _)| *record).collect();
            let (author, signature) = (DeviceId([*author; 32]), [*author; 64]);
            index.put_seal(&Seal { author, signature, lists: Lists::Whole(leaves) }, &records)
        }
        Op::Unseal(number) => index.unseal(&Hash::of(&[*number])),
        Op::Commit => index.commit(),
        Op::Reopen => Ok(()),
    }
}

fn scratch() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("index.db");
    (dir, file)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn both_indexes_answer_alike(ops in vec(op(), 0..60)) {
        let (_dir, file) = scratch();
        let store = MemStore::new();
        let mut sqlite = SqliteIndex::open(&file).expect("opens");
        let mut mem = MemIndex::open(&store);
        for op in &ops {
            if matches!(op, Op::Reopen) {
                drop(sqlite);
                sqlite = SqliteIndex::open(&file).expect("opens");
                mem = MemIndex::open(&store);
            }
            apply(&mut sqlite, op).expect("applies");
            apply(&mut mem, op).expect("applies");
            prop_assert_eq!(observe(&mut sqlite).expect("readable"), observe(&mut mem).expect("readable"));
        }
        prop_assert_eq!(recomputed(&mut sqlite), sqlite.fingerprint(0, 0));
        prop_assert_eq!(recomputed(&mut mem), mem.fingerprint(0, 0));
    }
}

fn known(seed: u8) -> Known {
    Known { bytes: Bytes::copy_from_slice(&[seed]), hash: Hash::of(&[seed]) }
}

fn some_path() -> RelPath {
    RelPath::parse("dir/file").expect("valid")
}

#[test]
fn a_copied_store_goes_its_own_way() {
    let store = MemStore::new();
    let mut index = MemIndex::open(&store);
    index.put(&some_path(), &Row { known: vec![known(1)], ..Row::default() }).expect("puts");
    index.commit().expect("commits");
    let copy = store.copy();
    index.put(&some_path(), &Row::default()).expect("puts");
    index.commit().expect("commits");
    assert_eq!(MemIndex::open(&store).row(&some_path()).expect("reads"), None);
    assert!(MemIndex::open(&copy).row(&some_path()).expect("reads").is_some());
}

#[test]
fn the_root_has_no_row() {
    let mut index = MemIndex::open(&MemStore::new());
    assert!(matches!(index.put(&RelPath::root(), &Row::default()), Err(IndexError::Root)));
    let (_dir, file) = scratch();
    let mut index = SqliteIndex::open(&file).expect("opens");
    assert!(matches!(index.put(&RelPath::root(), &Row::default()), Err(IndexError::Root)));
    assert!(index.row(&RelPath::root()).expect("reads").is_none());
    index
        .put(&some_path(), &Row { known: vec![known(1)], ..Row::default() })
        .expect("not failed by that");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "looks at the file from outside")]
fn the_file_is_private_and_held_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, file) = scratch();
    let mut index = SqliteIndex::open(&file).expect("opens");
    index.put(&some_path(), &Row { known: vec![known(1)], ..Row::default() }).expect("puts");
    index.commit().expect("commits");
    let files = std::fs::read_dir(dir.path()).expect("lists");
    for file in files {
        let mode = file.expect("lists").metadata().expect("stats").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(matches!(SqliteIndex::open(&file), Err(IndexError::Busy)));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (_dir, file) = scratch();
    drop(SqliteIndex::open(&file).expect("opens"));
    let db = Connection::open(&file).expect("opens");
    db.pragma_update(None, "user_version", 4).expect("sets");
    drop(db);
    for _ in 0..2 {
        let error = SqliteIndex::open(&file).expect_err("newer");
        assert!(matches!(error, IndexError::TooNew { found: 4, known: 3 }), "{error}");
    }
}

#[test]
fn an_index_of_the_first_format_is_brought_up() {
    let (_dir, file) = scratch();
    let row = Row { known: vec![known(1)], ..Row::default() };
    let mut index = SqliteIndex::open(&file).expect("opens");
    index.put(&some_path(), &row).expect("puts");
    index.commit().expect("commits");
    drop(index);
    let db = Connection::open(&file).expect("opens");
    db.execute_batch(
        "DROP INDEX rows_local; DROP INDEX sealed_by; DROP TABLE seals; DROP TABLE sealed;
         ALTER TABLE rows DROP COLUMN local; DROP TABLE intents;
         CREATE TABLE intents (path TEXT PRIMARY KEY, swap INTEGER NOT NULL, \
     content BLOB NOT NULL, kind INTEGER NOT NULL) WITHOUT ROWID; PRAGMA user_version = 1",
    )
    .expect("is taken down");
    let single = (some_path().as_str().to_owned(), 7, [3; 32], 1);
    db.execute("INSERT INTO intents VALUES (?, ?, ?, ?)", single).expect("inserts");
    drop(db);
    let intent =
        Intent { path: some_path(), swap: 7, content: Hash([3; 32]), kind: IntentKind::Replace };
    for _ in 0..2 {
        let mut index = SqliteIndex::open(&file).expect("opens");
        assert_eq!(index.intents().expect("reads"), std::slice::from_ref(&intent));
        assert_eq!(index.row(&some_path()).expect("reads"), Some(row.clone()));
        assert!(index.locals().expect("reads").is_empty());
    }
    let mut index = SqliteIndex::open(&file).expect("opens");
    let row = Row { local: Some(known(2)), ..row };
    index.put(&some_path(), &row).expect("puts");
    assert_eq!(index.locals().expect("reads"), [some_path()]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "damages the file from outside")]
fn e5_what_is_no_index_is_refused_and_can_be_set_aside() {
    let (_dir, file) = scratch();
    std::fs::write(&file, vec![7; 10_000]).expect("writes");
    assert!(matches!(SqliteIndex::open(&file), Err(IndexError::Corrupt(_))));
    let aside = set_aside(&file).expect("moves");
    assert_eq!(std::fs::read(aside).expect("reads").len(), 10_000);

    let db = Connection::open(&file).expect("opens");
    db.execute_batch("CREATE TABLE rows (x)").expect("creates");
    drop(db);
    assert!(matches!(SqliteIndex::open(&file), Err(IndexError::Corrupt(_))));
    set_aside(&file).expect("moves");

    drop(SqliteIndex::open(&file).expect("opens"));
    let db = Connection::open(&file).expect("opens");
    db.execute_batch("CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END")
        .expect("creates");
    drop(db);
    assert!(matches!(SqliteIndex::open(&file), Err(IndexError::Corrupt(_))));
    set_aside(&file).expect("moves");

    std::os::unix::fs::symlink("elsewhere", &file).expect("links");
    assert!(matches!(SqliteIndex::open(&file), Err(IndexError::Corrupt(_))));
}

/// An index of 300 rows with a chunk list, closed.
fn filled(file: &std::path::Path) {
    let mut index = SqliteIndex::open(file).expect("opens");
    for number in 0..300u32 {
        let path = RelPath::parse(&format!("d{}/f{number}", number % 7)).expect("valid");
        let here = Here {
            stat: Stat { kind: FileKind::File, size: 1, mtime: 2, ctime: 3, inode: 4, mode: 0 },
            content: Some(list(1).content()),
            target: None,
            base: VersionVector::new(),
            shown: 0,
            content_dot: None,
            racy: false,
            implied: false,
        };
        index
            .put(&path, &Row { known: vec![known(1), known(2)], here: Some(here), local: None })
            .expect("puts");
    }
    index.put_chunks(&list(1).content(), &list(1)).expect("puts");
    index.commit().expect("commits");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "damages the file from outside")]
fn e5_a_damaged_file_is_an_error_and_never_a_panic() {
    let (_dir, file) = scratch();
    filled(&file);
    let whole = std::fs::read(&file).expect("reads");
    let mut refused = 0;
    for step in 0..200usize {
        let mut damaged = whole.clone();
        if step % 4 == 0 {
            damaged.truncate(whole.len() * (step + 1) / 210);
        } else {
            let at = step * 7919 % whole.len();
            for byte in damaged.iter_mut().skip(at).take(1 + step % 300) {
                *byte ^= 0x55;
            }
        }
        std::fs::write(&file, &damaged).expect("writes");
        let seen = SqliteIndex::open(&file).and_then(|mut index| {
            (0..7).try_for_each(|n| {
                index.children(&RelPath::parse(&format!("d{n}")).expect("valid")).map(|_| ())
            })?;
            (0..4096).try_for_each(|bucket| index.bucket(bucket).map(|_| ()))?;
            index.put(&some_path(), &Row { known: vec![known(3)], ..Row::default() })?;
            index.commit()?;
            observe(&mut index)
        });
        match seen {
            Err(IndexError::Corrupt(_) | IndexError::TooNew { .. }) => refused += 1,
            Err(IndexError::Disk(_)) | Ok(_) => (),
            Err(other) => panic!("step {step}: {other}"),
        }
    }
    assert!(refused > 50, "only {refused} of 200 were noticed");
}

#[test]
fn after_an_error_only_what_was_committed_counts() {
    let (_dir, file) = scratch();
    let mut index = SqliteIndex::open(&file).expect("opens");
    index.put(&some_path(), &Row { known: vec![known(1)], ..Row::default() }).expect("puts");
    index.commit().expect("commits");
    let before = index.fingerprint(0, 0);
    drop(index);

    let db = Connection::open(&file).expect("opens");
    db.execute_batch("UPDATE rows SET here = X'FFFF'").expect("damages one row");
    drop(db);
    let other = RelPath::parse("other").expect("valid");
    let mut index = SqliteIndex::open(&file).expect("opens");
    index.put(&other, &Row { known: vec![known(2)], ..Row::default() }).expect("puts");
    let replaced = index.put(&some_path(), &Row { known: vec![known(3)], ..Row::default() });
    assert!(matches!(replaced, Err(IndexError::Corrupt(_))));
    assert!(matches!(index.commit(), Err(IndexError::Failed)));
    assert!(matches!(index.row(&other), Err(IndexError::Failed)));
    drop(index);
    let mut index = SqliteIndex::open(&file).expect("opens");
    assert_eq!(index.fingerprint(0, 0), before);
    assert_eq!(index.row(&other).expect("reads"), None);
}

#[test]
fn a_full_disk_is_an_error_and_costs_only_what_was_not_committed() {
    let (_dir, file) = scratch();
    filled(&file);
    let mut index = SqliteIndex::open(&file).expect("opens");
    let before = index.fingerprint(0, 0);
    index.limit_pages(100);
    let mut put = || {
        (0..2000u32).try_for_each(|number| {
            let path = RelPath::parse(&format!("new/{number}")).expect("valid");
            index.put(&path, &Row { known: vec![known(1); 9], ..Row::default() })
        })?;
        index.commit()
    };
    assert!(matches!(put(), Err(IndexError::Disk(_))));
    drop(index);
    let mut index = SqliteIndex::open(&file).expect("opens");
    assert_eq!(index.fingerprint(0, 0), before);
    assert_eq!(recomputed(&mut index), before);
}

/// A group's intents, and what is left of them after some are over, are there after a crash; what was not committed never
/// was.
#[test]
fn e12_open_intents_are_kept_by_groups() {
    let (_dir, file) = scratch();
    let intent = |number: u64| Intent {
        path: RelPath::parse(&format!("d/{number:03}")).expect("is a path"),
        swap: number,
        content: Hash([1; 32]),
        kind: IntentKind::Create,
    };
    let all: Vec<_> = (0..200).map(intent).collect();
    let mut index = SqliteIndex::open(&file).expect("opens");
    index.put_intents(&all).expect("puts");
    index.commit().expect("commits");
    drop(index);
    let mut index = SqliteIndex::open(&file).expect("opens");
    assert_eq!(index.intents().expect("reads"), all);
    for over in &all[..100] {
        index.clear_intent(&over.path).expect("clears");
    }
    index.commit().expect("commits");
    for over in &all[100..] {
        index.clear_intent(&over.path).expect("clears");
    }
    let again = Intent { swap: 7_000, ..intent(150) };
    index.put_intents(std::slice::from_ref(&again)).expect("puts");
    assert_eq!(index.intents().expect("reads"), std::slice::from_ref(&again));
    drop(index);
    let mut index = SqliteIndex::open(&file).expect("opens");
    assert_eq!(index.intents().expect("reads"), all[100..]);
    index.put_intents(std::slice::from_ref(&again)).expect("puts");
    index.commit().expect("commits");
    drop(index);
    let mut index = SqliteIndex::open(&file).expect("opens");
    let found = index.intents().expect("reads");
    assert_eq!((found.len(), &found[50]), (100, &again));
}

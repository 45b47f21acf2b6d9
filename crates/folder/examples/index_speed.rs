//! Measures the index: `cargo run --release -p folder --example index_speed [ROWS] [FILE]`.
//!
//! Rows look like those of a first synchronisation: a record of 250 bytes and what is here. Prints rows a
//! second for each kind of work; the aim is 150,000 puts and 200,000 reads a second.

#![allow(clippy::print_stdout, reason = "a measuring tool prints")]

use std::{path::PathBuf, time::Instant};

use bytes::Bytes;
use folder::index::{Here, Index, IndexError, Known, Row, SqliteIndex, bucket_of};
use tree::{FileKind, Stat};
use wire::{
    Hash, RelPath,
    version::{Dot, ReplicaId, VersionVector},
};

/// Files in a directory.
const IN_DIR: usize = 40;
/// Rows put between two commits.
const IN_COMMIT: usize = 5_000;

fn path(number: u64) -> RelPath {
    let dir = number / IN_DIR as u64;
    let text = format!("home/projects/group-{}/part-{dir}/some_file_name_{number}.rs", dir / 40);
    RelPath::parse(&text).unwrap_or_default()
}

fn row(number: u64, turn: u8) -> Row {
    let content = Hash::of(&number.to_le_bytes());
    let dot = Dot { replica: ReplicaId(content.head()), counter: number + 1 };
    let mut base = VersionVector::new();
    base.add(dot);
    let here = Here {
        stat: Stat {
            kind: FileKind::File,
            size: number * 37 % 100_000,
            mtime: 1_700_000_000_000_000_000,
            ctime: 1_700_000_000_000_000_000,
            inode: number + 1_000_000,
            mode: 0o644,
        },
        content: Some(content),
        target: None,
        base,
        shown: 0,
        content_dot: Some(dot),
        racy: false,
        implied: false,
    };
    let known = Known {
        bytes: Bytes::from(vec![turn; 250]),
        hash: Hash::of(&[&content.0[..], &[turn]].concat()),
    };
    Row { known: vec![known], here: Some(here), local: None }
}

fn timed(
    what: &str,
    rows: u64,
    work: impl FnOnce() -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let start = Instant::now();
    work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:32} {seconds:8.3} s {:12.0} a second", rows as f64 / seconds);
    Ok(())
}

fn put_all(index: &mut SqliteIndex, rows: &[(RelPath, Row)]) -> Result<(), IndexError> {
    for group in rows.chunks(IN_COMMIT) {
        group.iter().try_for_each(|(path, row)| index.put(path, row))?;
        index.commit()?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(50_000), |text| text.parse())?;
    let scratch = tempfile::tempdir()?;
    let file = arguments.next().map_or_else(|| scratch.path().join("index.db"), PathBuf::from);
    let rows: Vec<_> = (0..count).map(|number| (path(number), row(number, 1))).collect();
    let changed: Vec<_> = (0..count).map(|number| (path(number), row(number, 2))).collect();

    let mut index = SqliteIndex::open(&file)?;
    timed("first put of each row", count, || put_all(&mut index, &rows))?;
    timed("put of each row again", count, || put_all(&mut index, &changed))?;
    timed("row", count, || rows.iter().try_for_each(|(path, _)| index.row(path).map(|_| ())))?;
    timed("children of all directories", count, || {
        let dirs = rows.iter().step_by(IN_DIR).filter_map(|(path, _)| path.parent());
        dirs.into_iter().try_for_each(|dir| index.children(&dir).map(|_| ()))
    })?;
    timed("buckets", count, || (0..4096).try_for_each(|bucket| index.bucket(bucket).map(|_| ())))?;
    timed("by_content", count, || {
        let contents = rows.iter().filter_map(|(_, row)| row.here.as_ref()?.content);
        contents.into_iter().try_for_each(|content| index.by_content(&content).map(|_| ()))
    })?;
    timed("commits of one row", 200, || {
        changed.iter().take(200).try_for_each(|(path, row)| {
            index.put(path, row)?;
            index.commit()
        })
    })?;
    timed("bucket_of", count, || {
        for (path, _) in &rows {
            std::hint::black_box(bucket_of(path));
        }
        Ok(())
    })?;
    drop(index);
    timed("open", 1, || SqliteIndex::open(&file).map(|_| ()))?;
    Ok(())
}

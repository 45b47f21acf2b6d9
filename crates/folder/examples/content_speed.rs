//! Measures cutting and hashing on one core: `cargo run --release -p folder --example content_speed [MIB]`.
//!
//! The content lies in memory, so that neither disk nor page cache is measured. The aim is 1.5 GiB a
//! second for large files.

#![allow(clippy::print_stdout, reason = "a measuring tool prints")]

use std::{io, time::Instant};

use folder::content::{ContentReader, cut};
use tree::{FileKind, ReadFile, Stat};
use wire::Hash;

struct Memory(Vec<u8>);

impl ReadFile for Memory {
    fn stat(&self) -> io::Result<Stat> {
        let size = self.0.len() as u64;
        Ok(Stat { kind: FileKind::File, size, mtime: 0, ctime: 0, inode: 0, mode: 0o644 })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let len = buf.len().min(rest.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

fn timed<T>(what: &str, bytes: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    let gib = bytes as f64 / f64::from(1 << 30);
    println!("{what:32} {:6.2} GiB/s", gib / start.elapsed().as_secs_f64());
    done
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(256), |text| text.parse())?;
    let len = mib << 20;
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    timed("BLAKE3 of 256 KiB pieces", len, || {
        bytes.chunks(256 << 10).map(Hash::of).fold(0, |sum, hash| sum ^ hash.head())
    });
    let count = timed("cutting alone", len, || {
        let (mut rest, mut count) = (&bytes[..], 0);
        while let Some(len) = cut(rest, true) {
            rest = &rest[len..];
            count += 1;
        }
        count
    });
    println!("{count} chunks of {} KiB on average", len / 1024 / count.max(1));
    let file = Memory(bytes);
    let mut reader = ContentReader::new();
    timed("reading, cutting and hashing", len, || reader.read(&file, &file.stat()?))?;
    let small = Memory(file.0[..file.0.len().min(10_000)].to_vec());
    let start = Instant::now();
    for _ in 0..20_000 {
        reader.read(&small, &small.stat()?)?;
    }
    println!("20,000 files of 10 kB in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}

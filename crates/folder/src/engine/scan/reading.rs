//! Reading what is new or changed: a few files at a time, again and again where they are being written to (rule E23).

use tree::Stat;
use wire::RelPath;

use super::{super::report::Trouble, BUSY_MS};
use crate::{
    engine::{Authority, Effect, Engine, EngineError},
    index::Index,
    jobs::{HashError, HashItem, Hashed, HashedBody, Job},
};

/// Jobs of hashing at once.
const HASH_JOBS: usize = 4;
/// Files in one job of hashing, at most.
const HASH_FILES: usize = 64;
/// Bytes in one job of hashing, unless a single file has more.
const HASH_BYTES: u64 = 8 << 20;
/// A file that changed while it was read is read again after this long, then twice that, and so on.
const UNSTABLE_MS: u64 = 50;
/// The longest wait for a file that keeps changing (rule E23), in milliseconds.
const UNSTABLE_MAX_MS: u64 = 10_000;

/// Why a file is not taken for edited that only its disk can have changed.
const READS_OTHERWISE: &str = "reads otherwise than before, though nothing wrote to it: its disk may be failing; \
     other devices are not given this, check the disk and bring the file back from one of them";

impl<I: Index, A: Authority> Engine<I, A> {
    /// True for a file that could not be read, and now has other contents under the very stat that it had: nobody has
    /// edited that.
    fn reads_otherwise(
        &mut self,
        path: &RelPath,
        stat: &Stat,
        body: &HashedBody,
    ) -> Result<bool, EngineError> {
        let HashedBody::File { content, .. } = body else { return Ok(false) };
        let here = self.row(path)?.here;
        let here = here.filter(|here| here.stat == *stat && !here.racy);
        Ok(here.and_then(|here| here.content).is_some_and(|before| before != *content))
    }

    pub(super) fn hash_on(&mut self) {
        while self.scan.hash_jobs < HASH_JOBS && !self.scan.to_hash.is_empty() {
            let (mut items, mut bytes) = (Vec::new(), 0);
            while let Some((path, stat)) = self.scan.to_hash.pop_front() {
                if self.scan.hashing.contains_key(&path) {
                    continue;
                }
                bytes += stat.size;
                self.scan.hashing.insert(path.clone(), (self.now.wall, self.scan.groups));
                items.push(HashItem { path, stat });
                if items.len() >= HASH_FILES || bytes >= HASH_BYTES {
                    break;
                }
            }
            if items.is_empty() {
                break;
            }
            self.scan.hash_jobs += 1;
            self.effects.push(Effect::Job(Job::Hash { items }));
        }
    }

    pub(in crate::engine) fn hashed(&mut self, items: Vec<Hashed>) -> Result<(), EngineError> {
        self.scan.hash_jobs -= 1;
        for Hashed { path, result } in items {
            let now = (self.now.wall, self.scan.groups);
            let (asked, since) = self.scan.hashing.remove(&path).unwrap_or(now);
            if self.group.is_busy(&path) || self.scan.is_stale(&path, since) {
                // It was read before, or while, something else was put there.
                self.scan.to_stat.add(path, self.now.ms + BUSY_MS);
                continue;
            }
            match result {
                Ok((stat, body)) => {
                    self.scan.unstable.remove(&path);
                    if self.reports.is_unread(path.as_str()) {
                        if self.reads_otherwise(&path, &stat, &body)? {
                            self.skip(path.to_string(), Trouble::Read, READS_OTHERWISE);
                            continue;
                        }
                        self.mended(path.as_str());
                        self.has_contents_again();
                    }
                    self.mended_of(&path, Trouble::Kind);
                    self.saw_contents(path, stat, body, asked)?;
                }
                Err(HashError::Unstable) => {
                    let waited = self.scan.unstable.get(&path).map_or(UNSTABLE_MS, |entry| entry.1);
                    let next = (waited * 2).min(UNSTABLE_MAX_MS);
                    self.scan.unstable.insert(path, (self.now.ms + waited, next));
                }
                Err(HashError::Gone) => {
                    self.scan.unstable.remove(&path);
                    if let Some(dir) = path.parent() {
                        self.scan.to_list.insert(dir);
                    }
                }
                Err(HashError::Io(reason)) => {
                    self.scan.unstable.remove(&path);
                    self.skip(path.to_string(), Trouble::Read, reason);
                }
            }
        }
        Ok(())
    }
}

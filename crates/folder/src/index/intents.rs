//! Open intents, in memory and, many to a row, in the file: they come and go by groups, and a row for each would cost
//! as much as the records themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, params};
use wire::RelPath;

use super::{
    IndexError, Intent, codec,
    columns::{blob, text},
};

/// Intents in one row: what of them is open still is written again with each commit that closed others.
const TOGETHER: usize = 64;

/// The intents, in batches that each have a row.
#[derive(Debug, Default)]
pub(super) struct Intents {
    batches: BTreeMap<i64, Vec<Intent>>,
    by_path: HashMap<RelPath, i64>,
    /// Batches that are not in the file as they are here.
    changed: BTreeSet<i64>,
    last: i64,
}

impl Intents {
    /// Reads what the file has.
    pub(super) fn load(db: &Connection) -> Result<Self, IndexError> {
        let mut intents = Self::default();
        let mut statement = db.prepare("SELECT id, batch FROM intents ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            intents.last = row.get(0)?;
            intents.add(intents.last, codec::decode_intents(blob(row, 1)?)?);
        }
        Ok(intents)
    }

    /// Reads what a file of format 1 or 2 has, where each had a row of its own; all is to be written.
    pub(super) fn load_single(db: &Connection) -> Result<Self, IndexError> {
        let mut statement = db.prepare("SELECT path, swap, content, kind FROM intents")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let swap = row.get::<_, i64>(1)?.cast_unsigned();
            found.push(codec::decode_intent(text(row, 0)?, swap, blob(row, 2)?, row.get(3)?)?);
        }
        let mut intents = Self::default();
        intents.put(&found);
        Ok(intents)
    }

    /// Adds intents; one of the same path is replaced.
    pub(super) fn put(&mut self, intents: &[Intent]) {
        for intent in intents {
            self.clear(&intent.path);
        }
        for batch in intents.chunks(TOGETHER) {
            self.last += 1;
            self.changed.insert(self.last);
            self.add(self.last, batch.to_vec());
        }
    }

    fn add(&mut self, id: i64, batch: Vec<Intent>) {
        self.by_path.extend(batch.iter().map(|intent| (intent.path.clone(), id)));
        self.batches.insert(id, batch);
    }

    /// Removes the intent of a path, if there is one.
    pub(super) fn clear(&mut self, path: &RelPath) {
        let Some(id) = self.by_path.remove(path) else { return };
        if let Some(batch) = self.batches.get_mut(&id) {
            batch.retain(|intent| intent.path != *path);
            self.changed.insert(id);
        }
    }

    /// All of them, sorted by path.
    pub(super) fn all(&self) -> Vec<Intent> {
        let mut all: Vec<_> = self.batches.values().flatten().cloned().collect();
        all.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// Writes what has changed since the last time.
    pub(super) fn write(&mut self, db: &Connection) -> Result<(), IndexError> {
        for id in std::mem::take(&mut self.changed) {
            match self.batches.get(&id) {
                Some(batch) if !batch.is_empty() => {
                    let sql = "INSERT OR REPLACE INTO intents VALUES (?, ?)";
                    let bytes = codec::encode_intents(batch);
                    db.prepare_cached(sql)?.execute(params![id, bytes])?;
                }
                _ => {
                    self.batches.remove(&id);
                    db.prepare_cached("DELETE FROM intents WHERE id = ?")?.execute([id])?;
                }
            }
        }
        Ok(())
    }
}

//! The index in a file: one SQLite connection, a transaction open from the first change to the commit.

use std::path::Path;

use bytes::Bytes;
use identity::DeviceId;
use rusqlite::{Connection, OptionalExtension as _, Params, params};
use wire::{Hash, RelPath, sync::Fingerprint};

use super::{
    ChunkSource, Here, Index, IndexError, Intent, Known, MAX_FOUND, Row, Seal, Sealed, Totals,
    below, bucket_of, codec,
    columns::{blob, here, keys, known, path, whole_row},
    contents::Contents,
    dirs::Dirs,
    file,
    intents::Intents,
    joined, split,
    sums::{BLOCKS, Sums},
};
use crate::content::ChunkList;

/// Rows looked at for one content. Only contents made to share the first eight bytes of their hashes
/// need more, and for those it is enough to find none.
const MAX_LOOKED_AT: i64 = 64;
/// Where the totals are kept: after the last block of sums.
const TOTALS: usize = BLOCKS;

/// An index in a file of its own, mode 0600.
#[derive(Debug)]
pub struct SqliteIndex {
    db: Connection,
    sums: Sums,
    totals: Totals,
    changing: bool,
    failed: bool,
    /// True if there may be signatures: most folders have none, and look for none.
    sealed: bool,
    dirs: Dirs,
    contents: Contents,
    intents: Intents,
    /// The row that was read last: most are written right after.
    seen: Option<(RelPath, Option<Old>)>,
    known_blob: Vec<u8>,
    here_blob: Vec<u8>,
}

/// What `put` has to know of the row it replaces.
#[derive(Debug)]
struct Old {
    id: i64,
    known: Vec<Hash>,
    here: Option<Here>,
    has_local: bool,
}

impl Old {
    fn of(id: i64, row: &Row) -> Self {
        let known = row.known.iter().map(|known| known.hash).collect();
        Self { id, known, here: row.here.clone(), has_local: row.local.is_some() }
    }
}

impl SqliteIndex {
    /// Opens the index at `path`, or makes a new one. Rows are not read: this takes the same time for any
    /// number of them.
    ///
    /// # Errors
    /// [`IndexError::TooNew`] and [`IndexError::Corrupt`] for what is there, [`IndexError::Busy`] if another
    /// connection has it open, [`IndexError::Disk`] otherwise.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let db = file::open(path)?;
        let (mut sums, mut totals) = (Sums::default(), Totals::default());
        {
            let mut statement = db.prepare("SELECT block, value FROM sums ORDER BY block")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let block = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX);
                match block {
                    TOTALS => totals = codec::decode_totals(blob(row, 1)?)?,
                    _ => sums.load(block, blob(row, 1)?)?,
                }
            }
        }
        let sealed = db.prepare("SELECT 1 FROM sealed LIMIT 1")?.exists([])?;
        Ok(Self {
            intents: Intents::load(&db)?,
            sealed,
            db,
            sums,
            totals,
            changing: false,
            failed: false,
            dirs: Dirs::default(),
            contents: Contents::default(),
            seen: None,
            known_blob: Vec::new(),
            here_blob: Vec::new(),
        })
    }

    /// Makes the disk full for a test: the file may not grow beyond this many pages.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        let limited = self.db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        limited.expect("a limit can be set");
    }

    fn reading(&self) -> Result<&Connection, IndexError> {
        if self.failed { Err(IndexError::Failed) } else { Ok(&self.db) }
    }

    /// Runs a change inside the transaction. Any error may have made SQLite roll back, or leaves a change
    /// half done: after it, only what was committed can be believed.
    fn change(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        if self.failed {
            return Err(IndexError::Failed);
        }
        let begun = if self.changing { Ok(0) } else { execute(&self.db, "BEGIN", []) };
        self.changing = true;
        let done = begun.and_then(|_| change(self));
        self.failed = done.is_err();
        done
    }

    fn find(&self, parent: &str, name: &str) -> Result<Option<(i64, Row)>, IndexError> {
        let sql = "SELECT id, here, known, local FROM rows WHERE parent = ? AND name = ?";
        let mut statement = self.reading()?.prepare_cached(sql)?;
        let mut rows = statement.query([parent, name])?;
        rows.next()?.map(|row| Ok((row.get(0)?, whole_row(row, 1)?))).transpose()
    }

    fn replace(&mut self, path: &RelPath, row: &Row) -> Result<(), IndexError> {
        let (parent, name) = split(path)?;
        let bucket = bucket_of(path);
        let old = match self.seen.take() {
            Some((seen, old)) if seen == *path => old,
            _ => self.find(parent, name)?.map(|(id, row)| Old::of(id, &row)),
        };
        let (content, inode) = keys(row.here.as_ref());
        let old_content = old.as_ref().and_then(|old| keys(old.here.as_ref()).0);
        if let Some(head) = content.filter(|_| content != old_content) {
            self.contents.add(head);
        }
        self.known_blob.clear();
        codec::encode_known(&row.known, &mut self.known_blob);
        self.here_blob.clear();
        if let Some(here) = &row.here {
            codec::encode_here(here, &mut self.here_blob);
        }
        let known = (!row.known.is_empty()).then_some(&self.known_blob);
        let here = row.here.is_some().then_some(&self.here_blob);
        match &old {
            None if row.is_empty() => return Ok(()),
            None => {
                self.dirs.add(parent);
                execute(
                    &self.db,
                    "INSERT INTO rows (parent, name, bucket, content, inode, here, known) \
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                    params![parent, name, bucket, content, inode, here, known],
                )?
            }
            Some(old) if row.is_empty() => {
                execute(&self.db, "DELETE FROM rows WHERE id = ?", [old.id])?
            }
            // SQLite rewrites the entry in each look-up table whose column is named, changed or not.
            Some(old) if keys(old.here.as_ref()) == (content, inode) => execute(
                &self.db,
                "UPDATE rows SET here = ?, known = ? WHERE id = ?",
                params![here, known, old.id],
            )?,
            Some(old) => execute(
                &self.db,
                "UPDATE rows SET content = ?, inode = ?, here = ?, known = ? WHERE id = ?",
                params![content, inode, here, known, old.id],
            )?,
        };
        if row.local.is_some() || old.as_ref().is_some_and(|old| old.has_local && !row.is_empty()) {
            self.known_blob.clear();
            codec::encode_known(row.local.as_slice(), &mut self.known_blob);
            let local = row.local.is_some().then_some(&self.known_blob);
            let sql = "UPDATE rows SET local = ? WHERE parent = ? AND name = ?";
            execute(&self.db, sql, params![local, parent, name])?;
        }
        let (old_known, old_here) = old.map(|old| (old.known, old.here)).unwrap_or_default();
        for gone in old_known.iter().filter(|old| row.known.iter().all(|new| new.hash != **old)) {
            self.forget_seals(gone)?;
        }
        self.sums.change(bucket, &old_known, &row.known);
        self.totals.count(old_here.as_ref(), false);
        self.totals.count(row.here.as_ref(), true);
        let content = row.here.as_ref().and_then(|here| here.content);
        match old_here.and_then(|here| here.content) {
            Some(gone) if Some(gone) != content => self.forget_content(&gone),
            _ => Ok(()),
        }
    }

    /// Reads which directories have rows: one look-up for each.
    fn read_dirs(&mut self) -> Result<(), IndexError> {
        let mut dirs = Dirs::none();
        let mut statement = self
            .reading()?
            .prepare_cached("SELECT parent FROM rows WHERE parent > ? ORDER BY parent LIMIT 1")?;
        let mut last = String::new();
        while !dirs.is_full()
            && let Some(parent) =
                statement.query_row([&last], |row| row.get::<_, String>(0)).optional()?
        {
            dirs.add(&parent);
            last = parent;
        }
        drop(statement);
        self.dirs = dirs;
        Ok(())
    }

    /// Forgets who signed for a record, and the signatures that no known record needs any more.
    fn forget_seals(&self, record: &Hash) -> Result<(), IndexError> {
        if !self.sealed {
            return Ok(());
        }
        for gone in sealed(&self.db, record)? {
            execute(
                &self.db,
                "DELETE FROM sealed WHERE record = ? AND seal = ?",
                params![record.0, gone.seal.cast_signed()],
            )?;
            let sql = "DELETE FROM seals WHERE id = ?1 AND NOT EXISTS \
                 (SELECT 1 FROM sealed WHERE seal = ?1)";
            execute(&self.db, sql, [gone.seal.cast_signed()])?;
        }
        Ok(())
    }

    /// Removes the chunk list of a content that no row has here any more.
    fn forget_content(&mut self, content: &Hash) -> Result<(), IndexError> {
        if let Some((id, list)) = stored_list(&self.db, content)?
            && paths_with(&self.db, content)?.is_empty()
        {
            remove_list(&self.db, id, &list)?;
        }
        Ok(())
    }
}

impl Index for SqliteIndex {
    fn row(&mut self, path: &RelPath) -> Result<Option<Row>, IndexError> {
        let Ok((parent, name)) = split(path) else { return Ok(None) };
        let found = self.find(parent, name)?;
        let old = found.as_ref().map(|(id, row)| Old::of(*id, row));
        self.seen = Some((path.clone(), old));
        Ok(found.map(|(_, row)| row))
    }

    fn put(&mut self, path: &RelPath, row: &Row) -> Result<(), IndexError> {
        split(path)?;
        self.change(|this| this.replace(path, row))
    }

    fn children(&mut self, dir: &RelPath) -> Result<Vec<(String, Row)>, IndexError> {
        let mut statement = self.reading()?.prepare_cached(
            "SELECT name, here, known, local FROM rows WHERE parent = ? ORDER BY name",
        )?;
        let mut rows = statement.query([dir.as_str()])?;
        let mut children = Vec::new();
        while let Some(row) = rows.next()? {
            children.push((row.get(0)?, whole_row(row, 1)?));
        }
        Ok(children)
    }

    fn has_children(&mut self, dir: &RelPath) -> Result<bool, IndexError> {
        let mut statement =
            self.reading()?.prepare_cached("SELECT 1 FROM rows WHERE parent = ? LIMIT 1")?;
        Ok(statement.exists([dir.as_str()])?)
    }

    fn has_any_below(&mut self, dir: &RelPath) -> Result<bool, IndexError> {
        if self.dirs.is_unread() {
            self.read_dirs()?;
        }
        if !self.dirs.may_have_below(dir.as_str()) {
            return Ok(false);
        }
        let (after, end) = below(dir);
        let mut statement = self.reading()?.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM rows WHERE parent = ?1) \
             OR EXISTS (SELECT 1 FROM rows WHERE parent > ?2 AND parent < ?3)",
        )?;
        let found = statement.query_row([dir.as_str(), &after, &end], |row| row.get(0))?;
        Ok(found)
    }

    fn next_dir_below(
        &mut self,
        dir: &RelPath,
        last: Option<&RelPath>,
    ) -> Result<Option<RelPath>, IndexError> {
        let (before, end) = below(dir);
        let after = last.map_or(before.as_str(), RelPath::as_str);
        let mut statement = self.reading()?.prepare_cached(
            "SELECT parent FROM rows WHERE parent > ? AND parent < ? ORDER BY parent LIMIT 1",
        )?;
        let next: Option<String> =
            statement.query_row([after, end.as_str()], |row| row.get(0)).optional()?;
        next.map(|parent| joined("", &parent)).transpose()
    }

    fn bucket(&mut self, bucket: u16) -> Result<Vec<(RelPath, Vec<Known>)>, IndexError> {
        let mut statement = self.reading()?.prepare_cached(
            "SELECT parent, name, known FROM rows WHERE bucket = ? AND known IS NOT NULL",
        )?;
        let mut rows = statement.query([bucket])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((path(row)?, known(row, 2)?));
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn fingerprint(&self, bits: u8, prefix: u16) -> Fingerprint {
        self.sums.fingerprint(bits, prefix)
    }

    fn totals(&self) -> Totals {
        self.totals
    }

    fn by_content(&mut self, content: &Hash) -> Result<Vec<RelPath>, IndexError> {
        let head = content.head().cast_signed();
        if self.contents.is_unread() {
            let sql = "SELECT content FROM rows WHERE content IS NOT NULL";
            let mut statement = self.reading()?.prepare_cached(sql)?;
            let heads: rusqlite::Result<Vec<i64>> =
                statement.query_map([], |row| row.get(0))?.collect();
            drop(statement);
            self.contents = Contents::of(&heads?);
        }
        let db = self.reading()?;
        if self.contents.may_have(head) { paths_with(db, content) } else { Ok(Vec::new()) }
    }

    fn has_more_than(&mut self, content: &Hash, files: u64) -> Result<bool, IndexError> {
        let db = self.reading()?;
        let mut statement =
            db.prepare_cached("SELECT 1 FROM rows WHERE content = ? LIMIT 1 OFFSET ?")?;
        let after = i64::try_from(files).unwrap_or(i64::MAX);
        Ok(statement.exists(params![content.head().cast_signed(), after])?)
    }

    fn by_inode(&mut self, inode: u64) -> Result<Vec<RelPath>, IndexError> {
        let mut statement = self
            .reading()?
            .prepare_cached("SELECT parent, name FROM rows WHERE inode = ? LIMIT ?")?;
        let mut rows = statement.query(params![inode.cast_signed(), MAX_FOUND as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(path(row)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn put_chunks(&mut self, content: &Hash, list: &ChunkList) -> Result<(), IndexError> {
        self.change(|this| {
            if let Some((id, list)) = stored_list(&this.db, content)? {
                remove_list(&this.db, id, &list)?;
            }
            let packed = list.pack();
            execute(
                &this.db,
                "INSERT INTO lists (content, list) VALUES (?, ?)",
                params![content.0, &packed[..]],
            )?;
            let id = this.db.last_insert_rowid();
            let mut statement = this.db.prepare_cached("INSERT INTO chunks VALUES (?, ?, ?, ?)")?;
            for (offset, chunk) in list.iter() {
                let head = chunk.hash.head().cast_signed();
                statement.execute(params![head, id, offset.cast_signed(), chunk.len])?;
            }
            Ok(())
        })
    }

    fn chunks(&mut self, content: &Hash) -> Result<Option<ChunkList>, IndexError> {
        Ok(stored_list(self.reading()?, content)?.map(|(_, list)| list))
    }

    fn chunk_source(&mut self, chunk: &Hash) -> Result<Option<ChunkSource>, IndexError> {
        let mut statement = self.reading()?.prepare_cached(
            "SELECT lists.content, chunks.offset, chunks.len FROM chunks \
             JOIN lists ON lists.id = chunks.list WHERE chunks.head = ? LIMIT 1",
        )?;
        let mut rows = statement.query([chunk.head().cast_signed()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(ChunkSource {
            content: Hash(row.get(0)?),
            offset: row.get::<_, i64>(1)?.cast_unsigned(),
            len: row.get(2)?,
        }))
    }

    fn put_intents(&mut self, intents: &[Intent]) -> Result<(), IndexError> {
        intents.iter().try_for_each(|intent| split(&intent.path).map(|_| ()))?;
        self.change(|this| {
            this.intents.put(intents);
            Ok(())
        })
    }

    fn clear_intent(&mut self, path: &RelPath) -> Result<(), IndexError> {
        self.change(|this| {
            this.intents.clear(path);
            Ok(())
        })
    }

    fn intents(&mut self) -> Result<Vec<Intent>, IndexError> {
        self.reading().map(|_| self.intents.all())
    }

    fn meta(&mut self, key: &str) -> Result<Option<Bytes>, IndexError> {
        let mut statement =
            self.reading()?.prepare_cached("SELECT value FROM meta WHERE key = ?")?;
        Ok(statement.query_row([key], |row| row.get::<_, Vec<u8>>(0)).optional()?.map(Bytes::from))
    }

    fn put_meta(&mut self, key: &str, value: &[u8]) -> Result<(), IndexError> {
        self.change(|this| {
            execute(&this.db, "INSERT OR REPLACE INTO meta VALUES (?, ?)", params![key, value])
                .map(|_| ())
        })
    }

    fn locals(&mut self) -> Result<Vec<RelPath>, IndexError> {
        let mut statement = self
            .reading()?
            .prepare_cached("SELECT parent, name FROM rows WHERE local IS NOT NULL")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(path(row)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn conflict_names(&mut self) -> Result<Vec<RelPath>, IndexError> {
        let mut statement = self.reading()?.prepare_cached(
            "SELECT parent, name FROM rows WHERE name LIKE '%.conflict-%' AND here IS NOT NULL",
        )?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(path(row)?);
        }
        Ok(found)
    }

    fn put_seal(&mut self, seal: &Seal, records: &[(Hash, u32)]) -> Result<(), IndexError> {
        if records.is_empty() {
            return Ok(());
        }
        self.sealed = true;
        self.change(|this| {
            execute(
                &this.db,
                "INSERT INTO seals (author, signature, lists) VALUES (?, ?, ?)",
                params![seal.author.0, seal.signature, seal.pack()],
            )?;
            let id = this.db.last_insert_rowid();
            let sql = "INSERT OR IGNORE INTO sealed (record, seal, place) VALUES (?, ?, ?)";
            let mut statement = this.db.prepare_cached(sql)?;
            for (record, place) in records {
                statement.execute(params![record.0, id, place])?;
            }
            Ok(())
        })
    }

    fn sealed(&mut self, record: &Hash) -> Result<Vec<Sealed>, IndexError> {
        if self.sealed { sealed(self.reading()?, record) } else { Ok(Vec::new()) }
    }

    fn seal(&mut self, seal: u64) -> Result<Option<Seal>, IndexError> {
        let mut statement = self
            .reading()?
            .prepare_cached("SELECT author, signature, lists FROM seals WHERE id = ?")?;
        let mut rows = statement.query([seal.cast_signed()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let lists = Bytes::copy_from_slice(blob(row, 2)?);
        Seal::unpack(blob(row, 0)?, blob(row, 1)?, &lists).map(Some)
    }

    fn unseal(&mut self, record: &Hash) -> Result<(), IndexError> {
        self.change(|this| this.forget_seals(record))
    }

    fn sealers(&mut self) -> Result<Vec<DeviceId>, IndexError> {
        let mut statement = self.reading()?.prepare_cached("SELECT DISTINCT author FROM seals")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(DeviceId(row.get(0)?));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        if !self.changing && !self.failed {
            return Ok(());
        }
        self.change(|this| {
            let totals = (TOTALS, codec::encode_totals(&this.totals));
            for (block, value) in this.sums.take_dirty().into_iter().chain([totals]) {
                let sql = "INSERT OR REPLACE INTO sums VALUES (?, ?)";
                execute(&this.db, sql, params![block as i64, value])?;
            }
            this.intents.write(&this.db)?;
            execute(&this.db, "COMMIT", [])?;
            this.changing = false;
            Ok(())
        })
    }
}

fn execute(db: &Connection, sql: &str, params: impl Params) -> Result<usize, IndexError> {
    Ok(db.prepare_cached(sql)?.execute(params)?)
}

fn sealed(db: &Connection, record: &Hash) -> Result<Vec<Sealed>, IndexError> {
    let mut statement = db.prepare_cached(
        "SELECT sealed.seal, sealed.place, seals.author FROM sealed \
         JOIN seals ON seals.id = sealed.seal WHERE sealed.record = ? ORDER BY sealed.seal",
    )?;
    let mut rows = statement.query([record.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let seal = row.get::<_, i64>(0)?.cast_unsigned();
        found.push(Sealed { seal, place: row.get(1)?, author: DeviceId(row.get(2)?) });
    }
    Ok(found)
}

fn paths_with(db: &Connection, content: &Hash) -> Result<Vec<RelPath>, IndexError> {
    let mut statement =
        db.prepare_cached("SELECT parent, name, here FROM rows WHERE content = ? LIMIT ?")?;
    let mut rows = statement.query(params![content.head().cast_signed(), MAX_LOOKED_AT])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && found.len() < MAX_FOUND
    {
        if here(row, 2)?.is_some_and(|here| here.content.as_ref() == Some(content)) {
            found.push(path(row)?);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn stored_list(db: &Connection, content: &Hash) -> Result<Option<(i64, ChunkList)>, IndexError> {
    let mut statement = db.prepare_cached("SELECT id, list FROM lists WHERE content = ?")?;
    let mut rows = statement.query([content.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let list = ChunkList::unpack(blob(row, 1)?);
    let list = list.map_err(|error| IndexError::Corrupt(error.to_string()))?;
    Ok(Some((row.get(0)?, list)))
}

fn remove_list(db: &Connection, id: i64, list: &ChunkList) -> Result<(), IndexError> {
    let mut statement =
        db.prepare_cached("DELETE FROM chunks WHERE head = ? AND list = ? AND offset = ?")?;
    for (offset, chunk) in list.iter() {
        statement.execute(params![chunk.hash.head().cast_signed(), id, offset.cast_signed()])?;
    }
    execute(db, "DELETE FROM lists WHERE id = ?", [id]).map(|_| ())
}

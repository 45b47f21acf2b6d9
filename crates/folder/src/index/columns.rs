//! What SQLite gives back, column by column.

use bytes::Bytes;
use rusqlite::types::ValueRef;
use wire::RelPath;

use super::{
    Here, IndexError, Known, Row,
    codec::{decode_here, decode_known},
    inode_key, joined,
};

/// The columns by which a row is found.
pub(super) fn keys(here: Option<&Here>) -> (Option<i64>, Option<i64>) {
    let content = here.and_then(|here| here.content);
    let head = content.map(|content| content.head().cast_signed());
    (head, inode_key(here).map(u64::cast_signed))
}

/// A blob; empty where there is none.
pub(super) fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a [u8], IndexError> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(&[]),
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(IndexError::Corrupt("a column has the wrong type".into())),
    }
}

pub(super) fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a str, IndexError> {
    let text = row.get_ref(column)?.as_str();
    text.map_err(|_| IndexError::Corrupt("a name is not text".into()))
}

/// The path in the first two columns.
pub(super) fn path(row: &rusqlite::Row<'_>) -> Result<RelPath, IndexError> {
    joined(text(row, 0)?, text(row, 1)?)
}

pub(super) fn here(row: &rusqlite::Row<'_>, column: usize) -> Result<Option<Here>, IndexError> {
    let blob = blob(row, column)?;
    if blob.is_empty() { Ok(None) } else { decode_here(blob).map(Some) }
}

pub(super) fn known(row: &rusqlite::Row<'_>, column: usize) -> Result<Vec<Known>, IndexError> {
    decode_known(Bytes::copy_from_slice(blob(row, column)?))
}

/// A row, from what is here, what is known and what is not shared.
pub(super) fn whole_row(row: &rusqlite::Row<'_>, at: usize) -> Result<Row, IndexError> {
    let local = known(row, at + 2)?.into_iter().next();
    Ok(Row { here: here(row, at)?, known: known(row, at + 1)?, local })
}

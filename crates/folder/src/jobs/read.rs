//! Reading what is in the tree: naming contents, giving pieces to peers, taking copies.

use std::io;

use bytes::Bytes;
use tree::{Disk, FileKind, Place, Stat};
use wire::{Hash, RelPath, sync::PieceAnswer};

use super::{CopyItem, HashError, HashItem, HashedBody, ReadPiece, why};
use crate::{
    compress::{self, Policy},
    content::{ContentError, ContentReader},
};

pub(super) fn hash(
    disk: &dyn Disk,
    reader: &mut ContentReader,
    item: &HashItem,
) -> Result<(Stat, HashedBody), HashError> {
    let place = Place::Tree(item.path.clone());
    let classify = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HashError::Gone,
        _ => HashError::Io(format!("cannot be read: {}", why(&error))),
    };
    let now_at = |place: &Place| disk.stat(place).map_err(classify)?.ok_or(HashError::Gone);
    if item.stat.kind == FileKind::Symlink {
        let target = disk.read_link(&place).map_err(classify)?;
        let stat = now_at(&place)?;
        if target.is_empty() || target.len() > wire::record::MAX_TARGET {
            return Err(HashError::Io("its link target is too long to travel".to_owned()));
        }
        let same = stat.kind == FileKind::Symlink && stat.same_contents(&item.stat);
        let body = HashedBody::Symlink { target };
        return if same { Ok((stat, body)) } else { Err(HashError::Unstable) };
    }
    let file = disk.open(&place).map_err(classify)?;
    let before = file.stat().map_err(classify)?;
    let hashed = reader.read(&*file, &before).map_err(|error| match error {
        ContentError::Io(error) => classify(error),
        ContentError::TooLarge(_) => HashError::Io(error.to_string()),
        _ => HashError::Unstable,
    })?;
    // The path must still lead to what was read: an editor may have saved by renaming over it.
    let there = now_at(&place)?;
    if !there.same_contents(&hashed.stat) {
        return Err(HashError::Unstable);
    }
    let body =
        HashedBody::File { content: hashed.content, chunks: hashed.chunks, small: hashed.small };
    Ok((there, body))
}

pub(super) fn read_pieces(
    disk: &dyn Disk,
    pieces: Vec<ReadPiece>,
    compress: bool,
) -> Vec<(PieceAnswer, Option<RelPath>)> {
    let policy = if compress { Policy::WherePays } else { Policy::Never };
    let mut open: Option<(Place, Box<dyn tree::ReadFile>)> = None;
    let mut read = |piece: &ReadPiece| -> Option<Bytes> {
        let (place, stat) = piece.source.as_ref()?;
        if stat.is_some_and(|stat| piece.offset + u64::from(piece.len) > stat.size) {
            return None;
        }
        if open.as_ref().is_none_or(|(opened, _)| opened != place) {
            open = Some((place.clone(), disk.open(place).ok()?));
        }
        let (_, file) = open.as_ref()?;
        let bytes = file.read_vec(piece.len as usize, piece.offset).ok()?;
        let now = file.stat().ok()?;
        let same = stat.is_none_or(|stat| now.same_contents(&stat));
        (bytes.len() == piece.len as usize && same).then(|| bytes.into())
    };
    pieces
        .into_iter()
        .map(|piece| {
            let data = read(&piece).map(|bytes| compress::seal(bytes, policy));
            let stale = match piece.source {
                Some((Place::Tree(path), _)) if data.is_none() => Some(path),
                _ => None,
            };
            (PieceAnswer { item: piece.item, data }, stale)
        })
        .collect()
}

pub(super) fn copy_small(disk: &dyn Disk, item: &CopyItem) -> Option<Bytes> {
    let file = disk.open(&item.source).ok()?;
    let mut bytes = vec![0; usize::try_from(item.size).ok()?];
    let got = file.read_at(&mut bytes, 0).ok()?;
    (got == bytes.len() && Hash::of(&bytes) == item.content).then(|| bytes.into())
}

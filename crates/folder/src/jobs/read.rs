//! Reading what is in the tree: naming contents, giving pieces to peers, taking copies.

use std::io;

use bytes::Bytes;
use tree::{Disk, FileKind, Place, ReadFile, Stat};
use wire::{Hash, buffer::Buffer, sync::PieceAnswer};

use super::{
    CopyItem, HashError, HashItem, HashedBody, NotRead, ReadPiece, apply::is_homeless, why,
};
use crate::{
    compress::{self, Policy},
    content::{ContentError, ContentReader},
};

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {}", why(error))
}

pub(super) fn hash(
    disk: &dyn Disk,
    reader: &mut ContentReader,
    item: &HashItem,
) -> Result<(Stat, HashedBody), HashError> {
    let place = Place::Tree(item.path.clone());
    let classify = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HashError::Gone,
        _ => HashError::Io(unreadable(&error)),
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

/// Pieces that follow each other in a file are read at once, up to this many bytes.
const RUN: u64 = 1 << 20;

pub(super) fn read_pieces(
    disk: &dyn Disk,
    pieces: &[ReadPiece],
    compress: bool,
) -> Vec<(PieceAnswer, Option<NotRead>)> {
    let policy = if compress { Policy::WherePays } else { Policy::Never };
    let mut open: Option<(Place, Box<dyn ReadFile>)> = None;
    // `None` of what is not here, or is not what the index says.
    let mut read = |first: &ReadPiece, len: u64| -> io::Result<Option<Bytes>> {
        let Some((place, stat)) = first.source.as_ref() else { return Ok(None) };
        let Ok(size) = usize::try_from(len) else { return Ok(None) };
        if stat.is_some_and(|stat| first.offset.saturating_add(len) > stat.size) {
            return Ok(None);
        }
        let file = match open.take() {
            Some((opened, file)) if opened == *place => file,
            _ => disk.open(place)?,
        };
        let (_, file) = open.insert((place.clone(), file));
        let mut bytes = Buffer::new(size);
        let whole = file.read_at(bytes.as_mut(), first.offset)? == bytes.as_ref().len();
        let now = file.stat()?;
        let same = stat.is_none_or(|stat| now.same_contents(&stat));
        Ok((whole && same).then(|| bytes.freeze()))
    };
    let mut answers = Vec::with_capacity(pieces.len());
    let mut rest = pieces;
    while let Some(first) = rest.first() {
        let (count, len) = run(first, rest);
        let (together, behind) = rest.split_at(count);
        rest = behind;
        let (mut bytes, failure) = match read(first, len) {
            Ok(bytes) => (bytes, None),
            Err(error) => (None, Some(error)),
        };
        for piece in together {
            let data = bytes.as_mut().map(|bytes| bytes.split_to(piece.len as usize));
            let data = data.map(|bytes| compress::seal(bytes, policy));
            let not_read = match (&piece.source, &failure) {
                (Some((Place::Tree(path), _)), failure) if data.is_none() => match failure {
                    Some(error) if !is_homeless(error) => {
                        Some(NotRead::Failed(path.clone(), unreadable(error)))
                    }
                    _ => Some(NotRead::Changed(path.clone())),
                },
                _ => None,
            };
            answers.push((PieceAnswer { item: piece.item, data }, not_read));
        }
    }
    answers
}

/// How many pieces from the first on lie behind each other in one file of the tree, and their bytes.
fn run(first: &ReadPiece, pieces: &[ReadPiece]) -> (usize, u64) {
    let mut len = u64::from(first.len);
    let size = match &first.source {
        Some((_, Some(stat))) => stat.size,
        _ => return (1, len),
    };
    let follows = |piece: &&ReadPiece| {
        let more = len + u64::from(piece.len);
        let behind = more <= RUN
            && first.offset.saturating_add(more) <= size
            && piece.source == first.source
            && piece.offset == first.offset + len;
        if behind {
            len = more;
        }
        behind
    };
    let others = pieces.iter().skip(1).take_while(follows).count();
    (1 + others, len)
}

pub(super) fn copy_small(disk: &dyn Disk, item: &CopyItem) -> Option<Bytes> {
    let file = disk.open(&item.source).ok()?;
    let mut bytes = vec![0; usize::try_from(item.size).ok()?];
    let got = file.read_at(&mut bytes, 0).ok()?;
    (got == bytes.len() && Hash::of(&bytes) == item.content).then(|| bytes.into())
}

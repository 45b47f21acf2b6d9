//! Lines of `known_hosts`: the host keys that an alias must have.

use crate::{Alias, Host, PublicKey, Tag, text::comment};

/// The lines for a host.
pub(crate) fn lines(host: &Host) -> String {
    let (alias, tag, name) = (&host.alias, &host.tag, comment(&host.name));
    host.host_keys.iter().map(|key| format!("{alias} {key} {tag} {name}\n")).collect()
}

/// A line of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pinned {
    pub(crate) tag: Tag,
    pub(crate) alias: Alias,
    pub(crate) key: PublicKey,
}

/// Reads a line; `None` if it is not ours or has no key.
pub(crate) fn read(line: &[u8]) -> Option<Pinned> {
    let tag = Tag::of_line(line)?;
    let text = str::from_utf8(line).ok()?;
    let (alias, rest) = text.trim().split_once(' ')?;
    let key = rest.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Some(Pinned { tag, alias: Alias::new(alias).ok()?, key: PublicKey::parse(&key).ok()? })
}

/// What keeps host keys from being taken in the place of those that are pinned: the pinned one and the other.
///
/// Each kind must be the same, and at least one that is pinned must be there still.
pub(crate) fn conflict<'a>(
    pinned: &'a [PublicKey],
    now: &'a [PublicKey],
) -> Option<(&'a PublicKey, Option<&'a PublicKey>)> {
    let changed = pinned.iter().find_map(|old| {
        let new = now.iter().find(|new| new.kind() == old.kind() && !now.contains(old))?;
        Some((old, Some(new)))
    });
    let none_left = || {
        let first = pinned.first()?;
        (!pinned.iter().any(|old| now.contains(old))).then(|| (first, now.first()))
    };
    changed.or_else(none_left)
}

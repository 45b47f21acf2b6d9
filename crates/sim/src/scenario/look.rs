//! What there is to see of the devices of a scenario.

use std::collections::BTreeMap;

use folder::{
    engine::Event,
    index::{Index as _, Row},
};
use wire::{RelPath, sync::Message, version::ReplicaId};

use super::{Scenario, Sent};
use crate::disk::Node;

impl Scenario {
    /// A device's tree, without `.kin`.
    #[must_use]
    pub fn tree(&self, device: usize) -> BTreeMap<String, Node> {
        self.world.devices[device].disk.snapshot()
    }

    /// The paths in a device's tree.
    #[must_use]
    pub fn paths(&self, device: usize) -> Vec<String> {
        self.tree(device).into_keys().collect()
    }

    /// A small text file's contents.
    #[must_use]
    pub fn text(&self, device: usize, path: &str) -> Option<String> {
        let contents = self.world.devices[device].disk.contents(path)?;
        Some(String::from_utf8_lossy(&contents).into_owned())
    }

    /// The contents in a device's history, with their paths there.
    #[must_use]
    pub fn history(&self, device: usize) -> Vec<(String, Vec<u8>)> {
        self.state_files(device, ".kin/history/")
    }

    /// What lies in a device's `.kin/swap`.
    #[must_use]
    pub fn swap(&self, device: usize) -> Vec<(String, Vec<u8>)> {
        self.state_files(device, ".kin/swap/")
    }

    fn state_files(&self, device: usize, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let all = self.world.devices[device].disk.all_contents().into_iter();
        all.filter_map(|(path, contents)| {
            Some((path.strip_prefix(prefix)?.to_owned(), contents.to_vec()))
        })
        .collect()
    }

    /// The conflict copies in a device's tree.
    #[must_use]
    pub fn copies(&self, device: usize) -> Vec<String> {
        self.paths(device).into_iter().filter(|path| path.contains(".conflict-")).collect()
    }

    /// True if some file anywhere on a device, `.kin` included, has these contents.
    #[must_use]
    pub fn has(&self, device: usize, contents: &[u8]) -> bool {
        let all = self.world.devices[device].disk.all_contents();
        all.iter().any(|(_, bytes)| **bytes == *contents)
    }

    /// Contents that a user wrote, that no user replaced or deleted, and that are nowhere any more.
    #[must_use]
    pub fn lost(&self) -> Vec<String> {
        let written = self.world.written();
        let unreplaced = written.iter().filter(|(_, replaced)| !**replaced);
        let lost = unreplaced
            .filter(|(content, _)| (0..self.world.devices.len()).all(|it| !self.has(it, content)));
        lost.map(|(content, _)| String::from_utf8_lossy(content).into_owned()).collect()
    }

    /// What a device's engine told its person so far, with the time.
    #[must_use]
    pub fn events(&self, device: usize) -> &[(u64, Event)] {
        &self.world.devices[device].events
    }

    /// All messages since [`Self::forget`].
    #[must_use]
    pub fn sent(&self) -> &[Sent] {
        self.world.sent.as_deref().unwrap_or_default()
    }

    /// Bytes of contents sent since [`Self::forget`], whether asked for or riding along.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.sent().iter().map(|sent| content_bytes(&sent.message)).sum()
    }

    /// How often a running device's index was told to keep something, by its name, since its start.
    pub fn written_metas(&mut self, device: usize) -> BTreeMap<String, u64> {
        let engine = self.world.devices[device].engine.as_mut();
        engine.map(|engine| engine.index().metas.clone()).unwrap_or_default()
    }

    /// For how many seconds a running device's folder was in use.
    #[must_use]
    pub fn age(&self, device: usize) -> u64 {
        self.world.devices[device].engine.as_ref().map_or(0, folder::Engine::seconds_in_use)
    }

    /// Up to which of a replica's changes a running device knows all.
    #[must_use]
    pub fn knows_up_to(&self, device: usize, replica: ReplicaId) -> u64 {
        self.world.devices[device].engine.as_ref().map_or(0, |engine| engine.knows_up_to(replica))
    }

    /// A running device's replica id.
    #[must_use]
    pub fn replica(&self, device: usize) -> Option<ReplicaId> {
        self.world.devices[device].engine.as_ref().map(folder::Engine::replica)
    }

    /// What a running device's index holds for a path.
    pub fn row(&mut self, device: usize, path: &str) -> Row {
        let engine = self.world.devices[device].engine.as_mut();
        let path = RelPath::parse(path).unwrap_or_default();
        let row = engine.and_then(|engine| engine.index().row(&path).ok().flatten());
        row.unwrap_or_default()
    }
}

/// Bytes of contents in a message.
fn content_bytes(message: &Message) -> usize {
    match message {
        Message::Data { answers, .. } => {
            let data = answers.iter().filter_map(|answer| answer.data.as_ref());
            data.map(|data| data.bytes.len()).sum()
        }
        Message::Records { inline, .. } => inline.iter().map(|(_, bytes)| bytes.len()).sum(),
        _ => 0,
    }
}

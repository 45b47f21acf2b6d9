//! One device of a world.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

use folder::{
    brake::Limit,
    engine::{Event, Mode},
    ignore::Ignore,
    index::MemStore,
};
use wire::RelPath;

use super::{Meddled, SimEngine, members};
use crate::{
    authority::Manifest,
    disk::{Held, MachineCopy, VirtualDisk},
};

/// One device.
pub(crate) struct Device {
    pub(crate) disk: Arc<VirtualDisk>,
    pub(crate) store: MemStore,
    pub(crate) engine: Option<SimEngine>,
    /// What the next run's index must be bound to (rule E1).
    pub(crate) binding: Vec<u8>,
    /// What this device does not look at (rule E11).
    pub(crate) ignore: Ignore,
    /// How many deletions go without a question (rule E19).
    pub(crate) brake: Limit,
    /// Who may write, as far as this device has heard.
    pub(crate) manifest: Manifest,
    /// Which way changes go from the next run on.
    pub(crate) mode: Mode,
    /// True if the next run agrees beforehand to deletions.
    pub(crate) accept_deletes: bool,
    /// The question about deletions that is open.
    pub(crate) braked: Option<u32>,
    /// What the engine told the person, with the time.
    pub(crate) events: Vec<(u64, Event)>,
    /// Numbers runs, so that what was meant for an earlier one is dropped.
    pub(crate) run: u32,
    pub(super) watched: HashSet<RelPath>,
    /// The latest wake-up that is in the queue already.
    pub(super) wake: u64,
    pub(crate) in_sync: bool,
    pub(crate) conflicts: u32,
    /// How far its wall clock is off, in milliseconds.
    pub(crate) clock: i64,
    /// True while its watcher loses everything.
    pub(super) deaf: bool,
    /// A copy of its index and disk that was put away.
    pub(super) backup: Option<(MemStore, MachineCopy, members::Changes)>,
    /// Files that an editor keeps open, by the path they were opened at.
    pub(super) held: BTreeMap<String, Held>,
    /// Whether its death in a job to come is a loss of power.
    pub(crate) loses_power: bool,
    pub(crate) boot: u64,
    /// True if it makes groups as small as can be, and notes what came of them bit by bit.
    pub(crate) small_groups: bool,
    /// What a user did in the middle of the job under way.
    pub(super) meddled: Arc<Mutex<Vec<Meddled>>>,
}

impl Device {
    /// A device that has never run. Every second one makes small groups.
    pub(super) fn new(number: usize, disk: Arc<VirtualDisk>) -> Self {
        Self {
            disk,
            store: MemStore::new(),
            engine: None,
            binding: number.to_le_bytes().to_vec(),
            ignore: Ignore::none(),
            brake: Limit::OFF,
            manifest: Manifest::default(),
            mode: Mode::Both,
            accept_deletes: false,
            braked: None,
            events: Vec::new(),
            run: 0,
            watched: HashSet::new(),
            wake: u64::MAX,
            in_sync: false,
            conflicts: 0,
            clock: 0,
            deaf: false,
            backup: None,
            held: BTreeMap::new(),
            loses_power: false,
            boot: 1,
            small_groups: number % 2 == 1,
            meddled: Arc::default(),
        }
    }
}

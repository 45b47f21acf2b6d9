//! Which folders are kept in step over a link, and by which channels. Each end numbers the folders that it
//! opens; frames of a folder flow once both have opened it.

use std::collections::BTreeMap;

use folder::PeerId;
use identity::DeviceId;
use wire::{
    device::{Message as Say, Tag},
    frame::MAX_SLOT,
    membership::{FolderId, GroupId},
};

use super::{folders::Run, hub::Hub, links::Conn};
use crate::{
    host::{FolderLink, FolderSender},
    line::{ConnId, Route, inbox},
};

/// The folders of one link.
#[derive(Default)]
pub(super) struct Slots {
    open: BTreeMap<FolderId, Slot>,
    /// Where the search for a free number goes on: one that was just given up may still be named by frames on
    /// their way.
    next: u8,
}

struct Slot {
    group: GroupId,
    /// This end's number, once it was told.
    mine: Option<u8>,
    /// The other end's.
    theirs: Option<u8>,
    /// Set while frames flow.
    peer: Option<PeerId>,
}

impl Slots {
    /// The peer of a folder's engine on this link, while frames flow.
    pub(super) fn peer(&self, folder: &FolderId) -> Option<PeerId> {
        self.open.get(folder).and_then(|slot| slot.peer)
    }

    fn free(&mut self) -> Option<u8> {
        let free = (self.next..=MAX_SLOT)
            .chain(0..self.next)
            .find(|slot| !self.open.values().any(|other| other.mine == Some(*slot)))?;
        self.next = if free == MAX_SLOT { 0 } else { free + 1 };
        Some(free)
    }
}

impl Hub {
    /// Opens every folder of a group that both ends may have and that runs here.
    pub(super) fn open_slots(&mut self, id: ConnId, group: GroupId) {
        for folder in self.folders.running(&group) {
            self.open_slot(id, group, folder);
        }
    }

    /// Opens a folder on every link where it may be.
    pub(super) fn open_everywhere(&mut self, group: GroupId, folder: FolderId) {
        let linked: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.shared.contains(&group))
            .map(|(id, _)| *id)
            .collect();
        for id in linked {
            self.open_slot(id, group, folder);
        }
    }

    fn may_have(&self, device: &DeviceId, group: &GroupId, folder: &FolderId) -> bool {
        let held = self.groups.get(group);
        held.is_some_and(|held| {
            let manifest = held.manifest();
            manifest.may_read(device, folder) && manifest.may_read(&self.me, folder)
        })
    }

    fn open_slot(&mut self, id: ConnId, group: GroupId, folder: FolderId) {
        let Some(peer) = self.conns.get(&id).map(|conn| conn.line.peer) else { return };
        if !self.may_have(&peer, &group, &folder) || !self.folders.is_running(&group, &folder) {
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let numbered = conn.slots.open.get(&folder).is_some_and(|slot| slot.mine.is_some());
        let free = if numbered { None } else { conn.slots.free() };
        let slot = conn.slots.open.entry(folder).or_insert(Slot {
            group,
            mine: None,
            theirs: None,
            peer: None,
        });
        if slot.group != group {
            return;
        }
        if slot.mine.is_none() {
            let Some(free) = free else {
                // Both ends have so many folders in common that the rest waits for another link.
                tracing::warn!("a link has no channel left for a folder");
                return;
            };
            slot.mine = Some(free);
            let tag = Tag::new(&group, &conn.line.exporter);
            conn.say(Say::Open { slot: free, tag, folder });
        }
        self.connect(id, folder);
    }

    /// The other end has opened a folder.
    pub(super) fn heard_open(&mut self, id: ConnId, number: u8, group: GroupId, folder: FolderId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let taken = conn.slots.open.values().any(|slot| slot.theirs == Some(number));
        if !conn.shared.contains(&group) || taken {
            return self.cut(id, "it opened a folder out of order");
        }
        let slot = conn.slots.open.entry(folder).or_insert(Slot {
            group,
            mine: None,
            theirs: None,
            peer: None,
        });
        if slot.group != group || slot.theirs.is_some() {
            return self.cut(id, "it opened a folder twice");
        }
        slot.theirs = Some(number);
        self.open_slot(id, group, folder);
    }

    /// Both ends have opened it: frames flow from now on.
    fn connect(&mut self, id: ConnId, folder: FolderId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(slot) = conn.slots.open.get_mut(&folder) else { return };
        let (Some(mine), Some(theirs), None) = (slot.mine, slot.theirs, slot.peer) else { return };
        let group = slot.group;
        let Some(run) = self.folders.run_mut(&folder).filter(|run| run.group == group) else {
            return;
        };
        let Run { host: Some(host), .. } = run else { return };
        let peer = run.next_peer;
        run.next_peer = PeerId(peer.0 + 1);
        slot.peer = Some(peer);
        let (queue, input) = inbox::folder(false);
        // Before anything is said from which the other end could know that it may send; it was, or the
        // other end hears of this end's channel only now.
        let _ = conn.line.routes.send(Route::Open(theirs, queue));
        let out = FolderSender { link: conn.line.out.clone(), slot: mine };
        let device = conn.line.peer;
        let name = self.groups.name_of(&device);
        let name = name.map_or_else(|| device.short(), |name| name.as_str().to_owned());
        host.peer_up(peer, FolderLink { name, device: Some(device), out, input });
        run.peers += 1;
    }

    /// The other end does not use a channel any more.
    pub(super) fn heard_shut(&mut self, id: ConnId, number: u8) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let found = conn.slots.open.iter().find(|(_, slot)| slot.theirs == Some(number));
        let Some(folder) = found.map(|(folder, _)| *folder) else { return };
        self.shut_slot(id, folder);
    }

    /// Ends a folder on a link, for both ends: whoever opens it anew begins anew.
    fn shut_slot(&mut self, id: ConnId, folder: FolderId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(slot) = conn.slots.open.remove(&folder) else { return };
        if let Some(mine) = slot.mine {
            conn.line.out.forget(mine);
            conn.say(Say::Shut { slot: mine });
        }
        if let Some(theirs) = slot.theirs {
            let _ = conn.line.routes.send(Route::Shut(theirs));
        }
        self.folders.peer_down(&folder, slot.peer);
    }

    /// Ends all folders of a group on a link.
    pub(super) fn shut_slots(&mut self, id: ConnId, group: GroupId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let of_group = conn.slots.open.iter().filter(|(_, slot)| slot.group == group);
        let folders: Vec<FolderId> = of_group.map(|(folder, _)| *folder).collect();
        for folder in folders {
            self.shut_slot(id, folder);
        }
    }

    /// Ends a folder on all links.
    pub(super) fn shut_everywhere(&mut self, folder: FolderId) {
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            self.shut_slot(id, folder);
        }
    }

    /// Ends folders whose other end may not have them any more, and opens those that it may have now.
    pub(super) fn review_slots(&mut self, group: GroupId) {
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            let Some(conn) = self.conns.get(&id) else { continue };
            let peer = conn.line.peer;
            let of_group = conn.slots.open.iter().filter(|(_, slot)| slot.group == group);
            let lost: Vec<FolderId> = of_group
                .filter(|(folder, _)| !self.may_have(&peer, &group, folder))
                .map(|(folder, _)| *folder)
                .collect();
            let shared = conn.shared.contains(&group);
            for folder in lost {
                self.shut_slot(id, folder);
            }
            if shared {
                self.open_slots(id, group);
            }
        }
    }

    /// The link is gone.
    pub(super) fn close_slots(&mut self, conn: &mut Conn) {
        for (folder, slot) in std::mem::take(&mut conn.slots.open) {
            self.folders.peer_down(&folder, slot.peer);
        }
    }
}

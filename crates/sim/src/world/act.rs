//! What happens to a world from outside.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};

use folder::{engine::Input, index::MemStore};
use wire::RelPath;

use super::{Meddled, World, taken_out};
use crate::{
    disk::VirtualDisk,
    fault::Fault,
    history::{self, Edit},
    plan::{Action, Way},
};

impl World {
    pub(super) fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Edit(device, edit) => {
                self.edit(device, &edit);
                Ok(())
            }
            Action::Meddle(device, nth, edit) => {
                self.meddle(device, nth, edit);
                Ok(())
            }
            Action::Ambush(device, after, way) => {
                self.ambush(device, after, way);
                Ok(())
            }
            Action::Hold(device, path) => {
                let held = self.devices[device].disk.hold(&path).ok();
                self.note(format_args!("{device} opens {path}: {}", held.is_some()));
                self.devices[device].held.extend(held.map(|held| (path, held)));
                Ok(())
            }
            Action::WriteHeld(device, path, bytes) => {
                self.write_held(device, &path, bytes);
                Ok(())
            }
            Action::Connect(a, b) => {
                let (a, b) = (a.min(b), a.max(b));
                self.wanted_links.insert((a, b));
                self.members_meet()?;
                self.connect(a, b)
            }
            Action::Cut(a, b, late) => {
                self.wanted_links.remove(&(a.min(b), a.max(b)));
                self.disconnect_unevenly(a, b, late)
            }
            Action::Slow(a, b, longer) => {
                self.slow.insert((a.min(b), a.max(b)), longer);
                Ok(())
            }
            Action::Stop(device) => self.stop(device),
            Action::Start(device) => self.start(device),
            Action::Die { device, nth: None, power } => {
                self.devices[device].loses_power = power;
                self.die(device)
            }
            Action::Die { device, nth: Some(nth), power } => {
                self.devices[device].loses_power = power;
                let disk = Arc::downgrade(&self.devices[device].disk);
                let dies = move || {
                    if let Some(disk) = disk.upgrade() {
                        disk.cut_power();
                    }
                };
                self.devices[device].disk.before_call(nth, dies);
                Ok(())
            }
            Action::DiskFails(device, how) => {
                self.note(format_args!("the disk of {device}: {how:?}"));
                let how = how.map(|(failing, one_in)| (failing, one_in, self.rng.fork()));
                self.devices[device].disk.fail(how);
                Ok(())
            }
            Action::Deaf(device) => {
                self.devices[device].deaf = true;
                Ok(())
            }
            Action::Hears(device, says) => {
                self.note(format_args!("the watcher of {device} works again"));
                self.devices[device].deaf = false;
                let run = self.devices[device].run;
                if says { self.input(device, run, Input::Overflow) } else { Ok(()) }
            }
            Action::Clock(device, off) => {
                self.devices[device].clock = off;
                Ok(())
            }
            Action::BackUp(device) => {
                // Only an index that ran has anything in it.
                let here = &mut self.devices[device];
                if here.run > 0 {
                    let heard = self.members.heard_by(device);
                    here.backup = Some((here.store.copy(), here.disk.snapshot_of_machine(), heard));
                }
                Ok(())
            }
            Action::Restore(device, in_place) => {
                self.die(device)?;
                let backup = self.devices[device].backup.as_ref().map(|(index, ..)| index.copy());
                self.put_index(device, backup.unwrap_or_default(), in_place);
                Ok(())
            }
            Action::RollBack(device) => {
                self.die(device)?;
                self.roll_back(device);
                Ok(())
            }
            Action::CopyState(from, to) => {
                self.die(to)?;
                let copy = self.devices[from].store.copy();
                self.put_index(to, copy, false);
                Ok(())
            }
            Action::DeleteIndex(device) => {
                self.die(device)?;
                self.put_index(device, MemStore::new(), false);
                Ok(())
            }
            Action::Member(by, of, role) => self.change_member(by, of, role),
        }
    }

    fn put_index(&mut self, device: usize, index: MemStore, in_place: bool) {
        self.note(format_args!("{device} gets another index"));
        self.devices[device].store = index;
        if !in_place && self.mutation.is_none() {
            // Another file, and so another inode.
            self.devices[device].binding.push(0);
        }
    }

    fn meddle(&mut self, device: usize, nth: u64, edit: Edit) {
        let Some(here) = self.devices.get(device) else { return };
        let (disk, written) = (Arc::downgrade(&here.disk), Arc::clone(&self.written));
        let meddled = Arc::clone(&here.meddled);
        let does = move || {
            let Some(disk) = disk.upgrade() else { return };
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(paths) = edit.carry_out(&disk, &mut written) {
                let done = Meddled::by(&edit, paths, &disk, format!("{device} edits meanwhile"));
                meddled.lock().unwrap_or_else(PoisonError::into_inner).push(done);
            }
        };
        here.disk.before_call(nth, does);
    }

    fn ambush(&mut self, device: usize, after: u64, way: Way) {
        let Some(here) = self.devices.get(device) else { return };
        let (disk, written) = (Arc::downgrade(&here.disk), Arc::clone(&self.written));
        let meddled = Arc::clone(&here.meddled);
        let does = move |path: &str| {
            let Some(disk) = disk.upgrade() else { return };
            if path.contains(".conflict-") {
                // Nobody writes to the name of a copy in the moment it is made; its bytes would be in history.
                return;
            }
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            let mut meddled = meddled.lock().unwrap_or_else(PoisonError::into_inner);
            for edit in way.edits(path) {
                if let Some(paths) = edit.carry_out(&disk, &mut written) {
                    meddled.push(Meddled::by(&edit, paths, &disk, format!("{device} ambushes")));
                }
            }
        };
        here.disk.before_touch(after, does);
    }

    /// The machine is as it was when the backup was made. What only it had since is gone, and nobody's loss
    /// but the user's: that is a content that no other disk held, whole and so that no loss of power could
    /// have taken it. Where only the new name of a renamed file is gone with it, and others had heard already
    /// that the old one is deleted, it is enough that they keep it in history.
    fn roll_back(&mut self, device: usize) {
        let Some((index, disk, heard)) = self.devices[device].backup.take() else { return };
        self.note(format_args!("{device} is set back"));
        let mut elsewhere = HashSet::new();
        let (mut named, mut left, mut ready) = (HashSet::new(), HashSet::new(), HashSet::new());
        let others = self.devices.iter().enumerate().filter(|(number, _)| *number != device);
        for (_, other) in others {
            elsewhere.extend(other.disk.lasting_contents());
            let all = other.disk.all_contents();
            let goes = |path: &str| self.asked.iter().any(|it| history::is_within(path, it));
            let old =
                all.iter().filter(|(path, _)| path.starts_with(".kin/history/") || goes(path));
            left.extend(old.map(|(_, bytes)| Arc::clone(bytes)));
            let on_its_way =
                |path: &str| path.starts_with(".kin/partial/") || path.starts_with(".kin/swap/");
            let coming = all.iter().filter(|(path, _)| on_its_way(path));
            ready.extend(coming.map(|(_, bytes)| Arc::clone(bytes)));
            named.extend(all);
        }
        let shown = self.devices[device].disk.all_contents().into_iter();
        let shown: Vec<_> = shown.filter(|(path, _)| !path.starts_with(".kin/")).collect();
        for (content, replaced) in self.written().iter_mut() {
            *replaced |= !elsewhere.contains(content);
        }
        let before: Vec<_> = self.devices[device].disk.snapshot().into_keys().collect();
        self.set_back_members(device, heard);
        let here = &mut self.devices[device];
        here.disk.roll_back(&disk);
        here.store = index;
        // Until somebody tells it of its other life, it says new things under counters that this one has used:
        // who hears of them first takes what the other one made, and is not here any more, for seen (rule E1).
        let after = here.disk.snapshot();
        self.asked.extend(before.into_iter().filter(|path| !after.contains_key(path)));
        here.held.clear();
        named.extend(here.disk.all_contents());
        for (path, bytes) in shown.into_iter().filter(|it| !named.contains(it)) {
            if left.contains(&bytes) {
                self.names_set_back.insert(bytes.to_vec());
            } else if ready.contains(&bytes) {
                self.downloads_set_back.insert(bytes.to_vec(), path);
            }
        }
    }

    /// What a user did in the middle of a job has been done.
    pub(super) fn notice_meddling(&mut self, device: usize) {
        if !self.faults.has(Fault::Races) {
            return;
        }
        let done = std::mem::take(
            &mut *self.devices[device].meddled.lock().unwrap_or_else(PoisonError::into_inner),
        );
        for Meddled { line, paths, removed, out } in done {
            self.note(format_args!("{line}"));
            // What had been taken out of the place that was removed cannot go back there: history will do.
            self.names_set_back.extend(out.iter().map(|bytes| bytes.to_vec()));
            self.asked.extend(removed);
            self.notice(device, paths);
        }
    }

    fn write_held(&mut self, device: usize, path: &str, bytes: Vec<u8>) {
        self.set_clock(device);
        let here = &self.devices[device];
        let Some(held) = here.held.get(path) else { return };
        let Some(before) = here.disk.write_held(held, &bytes) else { return };
        history::note_replaced(&mut self.written(), Some(before));
        self.note(format_args!("{device} writes to what it opened as {path}"));
        self.written().insert(bytes, false);
        if let Ok(path) = RelPath::parse(path) {
            self.notice(device, vec![path]);
        }
    }

    /// A process dies: nothing is finished or committed. If its machine loses power, what was not synced is
    /// gone too.
    pub(crate) fn die(&mut self, number: usize) -> Result<(), String> {
        self.members.process_ends(number);
        if self.devices[number].engine.is_none() {
            return Ok(());
        }
        if std::mem::take(&mut self.devices[number].loses_power) {
            self.note(format_args!("{number} loses power"));
            let mut rng = self.rng.fork();
            self.devices[number].disk.lose_unsynced(&mut rng);
            self.devices[number].held.clear();
            self.devices[number].boot += 1;
        }
        self.crash(number)
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.slow.clear();
        for device in &mut self.devices {
            device.disk.fail(None);
            // What was to happen before a call to come does not happen any more.
            device.disk.restore_power();
            device.deaf = false;
        }
    }

    /// A process dies: nothing is finished or committed.
    pub(crate) fn crash(&mut self, number: usize) -> Result<(), String> {
        self.note(format_args!("{number} crashes"));
        self.devices[number].engine = None;
        self.devices[number].run += 1;
        self.devices[number].in_sync = false;
        let linked: Vec<_> =
            self.links.keys().copied().filter(|(a, b)| *a == number || *b == number).collect();
        for (a, b) in linked {
            self.disconnect(a, b)?;
        }
        Ok(())
    }
}

impl Meddled {
    fn by(edit: &Edit, paths: Vec<RelPath>, disk: &VirtualDisk, who: String) -> Self {
        let removed = edit.removes().map(str::to_owned);
        let out = if removed.is_some() { taken_out(disk) } else { Vec::new() };
        Self { line: format!("{who}: {edit}"), paths, removed, out }
    }
}

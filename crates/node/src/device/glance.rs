//! How folders are doing, for whoever asks: their lines and troubles, and which one is meant.

use std::path::PathBuf;

use wire::membership::{Action, FolderId, GroupId};

use super::{
    folders::Run,
    groups::{Group, hex, role_name},
    hub::Hub,
    store::StoredFolder,
};
use crate::{
    api::{Failure, FolderLine, FolderState, Trouble},
    host::Host,
};

impl Hub {
    /// Every folder that a group of ours has, or that is kept here.
    pub(super) fn folder_lines(&self) -> Vec<FolderLine> {
        let mut lines = Vec::new();
        for (group, held) in self.groups.iter() {
            let manifest = held.manifest();
            let role = manifest.members.get(&self.me).map(|member| member.role);
            let role = role.map_or("none", role_name);
            for (folder, about) in &manifest.folders {
                if self.is_elsewhere(group, folder) {
                    continue;
                }
                if manifest.may_store(&self.me, folder) || self.folders.get(folder).is_some() {
                    let name = about.name.as_str();
                    lines.push(self.folder_line(group, folder, name, &held.label, role));
                }
            }
            let gone = self.folders.stored().iter().filter(|stored| {
                stored.group == *group && !manifest.folders.contains_key(&stored.folder)
            });
            for stored in gone {
                let name = self.name_of_folder(stored);
                lines.push(self.folder_line(group, &stored.folder, &name, &held.label, role));
            }
        }
        lines
    }

    /// True if another group, made out of this one, has taken the folder along (rule T11).
    fn is_elsewhere(&self, group: &GroupId, folder: &FolderId) -> bool {
        self.folders.get(folder).is_some_and(|stored| stored.group != *group)
    }

    /// What a folder is called that is kept here; one that its group has no more, as it was called last.
    pub(super) fn name_of_folder(&self, stored: &StoredFolder) -> String {
        if let Some((_, name)) = self.groups.folder(&stored.folder) {
            return name.as_str().to_owned();
        }
        let held = self.groups.get(&stored.group);
        // What does nothing gives no names either.
        let void = held.map(|held| held.manifest().void.clone()).unwrap_or_default();
        let names = held
            .into_iter()
            .flat_map(|held| held.log().operations())
            .filter(|one| void.iter().all(|void| void.operation != one.id()))
            .filter_map(|one| match &one.operation().action {
                Action::FolderAdded { folder, name } if *folder == stored.folder => Some(name),
                _ => None,
            });
        match names.last() {
            Some(name) => name.as_str().to_owned(),
            None => stored.dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    fn folder_line(
        &self,
        group: &GroupId,
        folder: &FolderId,
        name: &str,
        label: &str,
        role: &str,
    ) -> FolderLine {
        let stored = self.folders.get(folder);
        let run = self.folders.run(folder);
        let glance = run.and_then(|run| run.host.as_ref()).map(Host::glance).unwrap_or_default();
        let manifest = self.groups.get(group).map(Group::manifest);
        let (state, reason) = match (stored, run) {
            (None, _) => (FolderState::NotJoined, None),
            (Some(stored), _) if stored.paused => (FolderState::Paused, None),
            (Some(stored), _)
                if manifest.as_ref().is_some_and(|all| !all.folders.contains_key(folder)) =>
            {
                (
                    FolderState::Stopped,
                    Some(format!(
                        "the group has taken it back: kin folders forget {}",
                        word_for(stored)
                    )),
                )
            }
            (Some(stored), _) if manifest.is_some_and(|all| !all.may_read(&self.me, folder)) => {
                let hint = format!("kin folders forget {}", word_for(stored));
                (
                    FolderState::Stopped,
                    Some(format!("this device may not have it any more: {hint}")),
                )
            }
            (Some(_), None) if self.net.is_none() => {
                (FolderState::Stopped, Some("the device does not run: kin up".to_owned()))
            }
            // It begins anew in a moment.
            (Some(_), None) => (FolderState::Scanning, None),
            (Some(_), Some(Run { failed: Some((reason, _)), .. })) => {
                (FolderState::Stopped, Some(reason.clone()))
            }
            (Some(_), Some(run)) => match &run.brake {
                Some((deletes, of, _)) => (
                    FolderState::Syncing,
                    Some(format!("{deletes} deletions of {of} files wait for a yes")),
                ),
                None if run.agreed && run.peers > 0 => (FolderState::Idle, None),
                None if run.host.is_none() || (!glance.settled && run.need.0 == 0) => {
                    (FolderState::Scanning, None)
                }
                None if run.peers == 0 && glance.settled => (FolderState::Idle, None),
                None => (FolderState::Syncing, None),
            },
        };
        FolderLine {
            folder: hex(&folder.0),
            name: name.to_owned(),
            dir: stored.map(|stored| stored.dir.clone()),
            group: label.to_owned(),
            state,
            reason,
            files: glance.files,
            bytes: glance.bytes,
            need_files: run.map_or(0, |run| run.need.0),
            need_bytes: run.map_or(0, |run| run.need.1),
            conflicts: glance.conflicts,
            role: role.to_owned(),
            mode: stored.map(|stored| stored.mode).unwrap_or_default(),
        }
    }

    /// What is wrong with folders.
    pub(super) fn folder_troubles(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for stored in self.folders.stored() {
            let Some(run) = self.folders.run(&stored.folder) else { continue };
            let name = self.name_of_folder(stored);
            let (folder, word) = (Some(name.clone()), word_for(stored));
            let glance = run.host.as_ref().map(Host::glance).unwrap_or_default();
            let mut add = |kind: &str, message: String, hint: String| {
                troubles.push(Trouble {
                    kind: kind.to_owned(),
                    folder: folder.clone(),
                    message,
                    hint,
                });
            };
            if let Some((message, hint)) = &run.failed {
                add("stopped", message.clone(), hint.clone());
            }
            if let Some((deletes, of, from)) = &run.brake {
                let by = if from.is_empty() { String::new() } else { format!(" by {from}") };
                add(
                    "brake",
                    format!("{deletes} of {of} files were deleted{by}; these deletions are held"),
                    format!("if they are meant: kin folders resume {word} --accept-deletes"),
                );
            }
            for path in glance.local.iter() {
                add(
                    "local_only",
                    format!(
                        "{path}: changed on this device only, which does not write to the folder"
                    ),
                    format!("kin folders revert {word} puts back what the others have"),
                );
            }
            for (path, reason) in &run.skipped {
                add("skipped", format!("{path}: {reason}"), String::new());
            }
        }
        troubles
    }

    /// A folder by what a person typed: its name, the beginning of its id, or its directory.
    pub(super) fn find_folder(&self, text: &str) -> Result<(GroupId, FolderId), Failure> {
        let dir = PathBuf::from(text);
        if let Some(stored) = self.folders.stored().iter().find(|stored| stored.dir == dir) {
            return Ok((stored.group, stored.folder));
        }
        let mut found = Vec::new();
        for (group, held) in self.groups.iter() {
            for (folder, about) in &held.manifest().folders {
                let begins = text.len() >= 4 && hex(&folder.0).starts_with(text);
                if (about.name.as_str() == text || begins) && !self.is_elsewhere(group, folder) {
                    found.push((*group, *folder));
                }
            }
        }
        if found.is_empty() {
            // What its group has no more goes by the name that it had, as it is listed.
            let gone = self.folders.stored().iter().filter(|stored| {
                let begins = text.len() >= 4 && hex(&stored.folder.0).starts_with(text);
                self.groups.folder(&stored.folder).is_none()
                    && (begins || self.name_of_folder(stored) == text)
            });
            found.extend(gone.map(|stored| (stored.group, stored.folder)));
        }
        // Of several with one name, the group in use decides, then what is kept here.
        if found.len() > 1 {
            let used = self.used_group().ok();
            if found.iter().any(|(group, _)| Some(*group) == used) {
                found.retain(|(group, _)| Some(*group) == used);
            }
            if found.iter().any(|(_, folder)| self.folders.get(folder).is_some()) {
                found.retain(|(_, folder)| self.folders.get(folder).is_some());
            }
        }
        match found[..] {
            [one] => Ok(one),
            [] => Err(Failure::usage(
                "no_folder",
                format!("no group of this device has a folder {text}"),
            )
            .hint("kin folders lists them; kin share DIR adds one")),
            _ => Err(Failure::usage("ambiguous", format!("several folders are called {text}"))
                .hint("give the beginning of its id: kin folders --json")),
        }
    }
}

/// A folder as a command takes it that is copied from a hint: its directory, which only this device's person names.
pub(super) fn word_for(stored: &StoredFolder) -> String {
    quoted(&stored.dir.to_string_lossy())
}

/// A word as a shell reads it: what others chose does not become a command.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@:".contains(c);
    if word.chars().all(is_plain) && !word.is_empty() && !word.starts_with('-') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_others_chose_is_one_word_to_a_shell() {
        for plain in ["/srv/Photos", "Bücher", "a-b_c.d@e:f+g"] {
            assert_eq!(quoted(plain), plain);
        }
        assert_eq!(quoted("x; curl y|sh"), "'x; curl y|sh'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!((&*quoted(""), &*quoted("-rf")), ("''", "'-rf'"));
    }
}

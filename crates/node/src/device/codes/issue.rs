//! What a person asks of codes: to issue one, to list them, to take one back, to let one go on, and to answer
//! a device that waits.

use std::path::{Path, PathBuf};

use identity::{DeviceId, Secret};
use pairing::code::{EXPIRES, MAX_EXPIRES, MAX_USES, TOLD_FOR, issue};
use serde_json::Value;
use wire::{
    code::{Code, Hello},
    envelope::Recipient,
    membership::{Action, FolderId, GroupId, Role},
    session::Name,
};

use super::Via;
use crate::{
    api::{CodeAsk, CodeLine, CodeRefusal, Failure, FolderMode, IssuedCode, ShareCode, Trouble},
    device::{
        groups::{hex, role, role_name},
        hub::{Hub, random, wall},
        store::{StoreError, StoredAsk, StoredCode, StoredFolder},
    },
};

/// How far the clock may have gone back where a code is issued, in seconds.
const MAX_BEHIND: i64 = 3600;

/// A time in words, as long as it is at least.
fn span(seconds: i64) -> String {
    match seconds {
        ..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn lost(error: StoreError) -> Failure {
    Failure::failed("state", error)
}

fn answer(value: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::failed("internal", error))
}

impl Hub {
    /// Issues a code for a folder, which is shared first if it is not.
    pub(in crate::device) fn share_code(&mut self, wish: &ShareCode) -> Result<Value, Failure> {
        let role = match wish.role.as_deref() {
            None => Role::Reader,
            Some(text) => role(text)?,
        };
        if role == Role::Admin {
            let message = "a code makes nobody an admin: whoever finds it could let others in";
            return Err(Failure::usage("bad_role", message)
                .hint("pair that device: kin pair --token; or give writer or reader"));
        }
        let seconds = wish.expires.unwrap_or_else(|| u64::try_from(EXPIRES).unwrap_or(0));
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        if !(1..=MAX_EXPIRES).contains(&seconds) {
            return Err(Failure::usage("bad_time", "a code is good for 1 s to 366 days")
                .hint("for example --expires 7d"));
        }
        let uses = wish.uses.unwrap_or(1);
        if !(1..=MAX_USES).contains(&uses) {
            let message = format!("a code is for 1 to {MAX_USES} devices");
            return Err(Failure::usage("bad_uses", message).hint("for example --uses 3"));
        }
        let now = self.code_time();
        let behind = now.saturating_sub(wall());
        if behind > MAX_BEHIND {
            // Its end would be so much later than was said, since the time that counts never goes back (rule T19).
            let message = format!(
                "this device's clock is {} behind what it was: a code would last so much longer than it says",
                span(behind)
            );
            return Err(Failure::failed("clock", message).hint(
                "set the clock if it is wrong; if it was wrong before, let the other device in by kin pair --token",
            ));
        }
        let before = now.saturating_sub(TOLD_FOR);
        self.store.drop_codes(before).map_err(lost)?;
        let (group, folder) = self.folder_for_code(wish)?;
        let Some(held) = self.groups.get(&group) else {
            return Err(Failure::usage("no_group", "there is no such group here"));
        };
        let manifest = held.manifest();
        if !manifest.is_admin(&self.me) {
            return Err(Failure::failed("not_admin", "only an admin of the group lets others in")
                .hint("issue the code on an admin's device: kin devices lists them"));
        }
        let Some(about) = manifest.folders.get(&folder) else {
            return Err(
                Failure::usage("no_folder", "the group has no such folder").hint("kin folders")
            );
        };
        let folder_name = about.name.as_str().to_owned();
        let (label, log_length) = (held.label.clone(), held.log().operations().count() as u64);
        let code = Code::new(&Secret::new(random()?), &self.me);
        let mut terms = issue(&code, group, folder, now);
        terms.role = role;
        terms.expires = now.saturating_add(seconds);
        (terms.uses, terms.ask) = (uses, wish.ask);
        let owner = Secret::new(random()?);
        let stored = StoredCode { terms, folder_name: folder_name.clone(), log_length, owner };
        self.store.put_code(&stored).map_err(lost)?;
        self.post_invitation(&stored);
        self.code_changed(&stored.terms.id);
        let relay = self.own_mail().first().map(|mail| mail.relay.clone());
        answer(IssuedCode {
            event: "code".to_owned(),
            id: hex(&stored.terms.id.0),
            code: code.to_text().expose().clone(),
            link: code.to_link(relay.as_deref()).expose().clone(),
            role: role_name(role).to_owned(),
            expires: stored.terms.expires,
            uses,
            folder: hex(&folder.0),
            name: folder_name,
            group: label,
            ask: wish.ask,
            unposted: self.unposted(&stored.terms.lookup),
        })
    }

    /// The folder that a code is to be for: one that is known, or the directory, which becomes a folder of a
    /// group of its own unless one is named (rule T14): a guest sees the names of the group's devices.
    fn folder_for_code(&mut self, wish: &ShareCode) -> Result<(GroupId, FolderId), Failure> {
        let missing = match self.find_folder(&wish.folder) {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        let kept = |dir: &Path| {
            let stored = self.folders.stored().iter().find(|stored| stored.dir == dir);
            stored.map(|stored| (stored.group, stored.folder))
        };
        let Some(dir) = wish.dir.clone() else { return Err(missing) };
        if let Some(found) = kept(&dir) {
            return Ok(found);
        }
        self.check_dir(&dir)?;
        let called = match &wish.name {
            Some(name) => name.clone(),
            None => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let called = Name::new(&called).map_err(|error| Failure::usage("bad_name", error))?;
        let group = match &wish.group {
            Some(text) => self.groups.find(text)?,
            None => self.make_group(Some(called.as_str()))?,
        };
        self.share_dir(group, dir, called)
    }

    fn share_dir(
        &mut self,
        group: GroupId,
        dir: PathBuf,
        name: Name,
    ) -> Result<(GroupId, FolderId), Failure> {
        let folder = FolderId(random()?);
        self.write(group, Action::FolderAdded { folder, name })?;
        let (mode, joined) = (FolderMode::Both, random()?);
        self.keep(StoredFolder { group, folder, dir, mode, paused: false, joined })?;
        self.start_folder(folder);
        Ok((group, folder))
    }

    /// All codes whose end this device still explains.
    pub(in crate::device) fn code_lines(&mut self) -> Result<Value, Failure> {
        let now = self.code_time();
        let mut lines = Vec::new();
        for code in self.store.codes().map_err(lost)? {
            if now < code.terms.expires.saturating_add(TOLD_FOR) {
                lines.push(self.code_line(&code, now)?);
            }
        }
        answer(lines)
    }

    /// Who waits for a person's word.
    pub(in crate::device) fn code_troubles(&self) -> Vec<Trouble> {
        let now = self.codes.latest.max(wall());
        let mut troubles = Vec::new();
        for code in self.store.codes().unwrap_or_default() {
            // What cannot be read is told where codes are asked for.
            let Ok(line) = self.code_line(&code, now) else { continue };
            let id: String = line.id.chars().take(8).collect();
            // That the device does not run, or a relay is not reached, is told already.
            if let Some(why) = line.unposted.filter(|why| !why.is_empty() && self.net.is_some()) {
                troubles.push(Trouble {
                    kind: "code_unposted".to_owned(),
                    folder: None,
                    message: format!(
                        "the sharing code {id} for {} is at no relay yet: {why}",
                        line.folder
                    ),
                    hint: "who is on another network cannot join by it before; it is tried again: kin relay list"
                        .to_owned(),
                });
            }
            troubles.extend(line.waiting.into_iter().map(|one| {
                let device: String = one.device.chars().take(12).collect();
                Trouble {
                    kind: "code_waits".to_owned(),
                    folder: None,
                    message: format!("{} asks to be let in to {} by a code", one.name, line.folder),
                    hint: format!(
                        "kin codes tells what a yes gives: kin codes allow {id} {device}"
                    ),
                }
            }));
        }
        troubles
    }

    fn code_line(&self, code: &StoredCode, now: i64) -> Result<CodeLine, Failure> {
        let terms = &code.terms;
        // Nobody has this id: what counts is the code alone.
        let present = self.present(code, &DeviceId([0; 32]), now).map_err(lost)?;
        let spent = u32::try_from(present.spent.len()).unwrap_or(u32::MAX);
        let state = match () {
            () if terms.revoked || !present.is_admin => "revoked",
            () if now >= terms.expires => "expired",
            () if !present.has_folder => "folder_gone",
            () if spent >= terms.uses => "used_up",
            () if terms.suspended => "suspended",
            () => "open",
        };
        let asks = self.store.code_asks(&terms.id).map_err(lost)?;
        // Also of a code that asks nobody: it may be that it would give more than it says.
        let open = state == "open";
        let mut waiting = Vec::new();
        for ask in asks.into_iter().filter(|ask| open && ask.consent.is_none()) {
            let grants = self.granted_by(code, &ask.device, now).map_err(lost)?;
            let device = ask.device.to_string();
            waiting.push(CodeAsk { device, name: ask.name, at: ask.at, grants });
        }
        let refused = self.store.code_refusals(&terms.id).map_err(lost)?;
        let held = self.groups.get(&terms.group);
        Ok(CodeLine {
            id: hex(&terms.id.0),
            folder: code.folder_name.clone(),
            group: held.map(|held| held.label.clone()).unwrap_or_default(),
            role: role_name(terms.role).to_owned(),
            expires: terms.expires,
            uses_left: terms.uses.saturating_sub(spent),
            used_by: present.spent.iter().map(|device| self.name_of(device)).collect(),
            state: state.to_owned(),
            ask: terms.ask,
            waiting,
            unposted: if open { self.unposted(&terms.lookup) } else { None },
            refused: refused
                .into_iter()
                .map(|one| CodeRefusal {
                    device: one.device.to_string(),
                    name: one.name,
                    reason: one.why,
                    at: one.at,
                })
                .collect(),
        })
    }

    /// A code by the beginning of its id.
    fn find_code(&self, text: &str) -> Result<StoredCode, Failure> {
        let codes = self.store.codes().map_err(lost)?;
        let begins = |code: &StoredCode| text.len() >= 4 && hex(&code.terms.id.0).starts_with(text);
        let mut found: Vec<StoredCode> = codes.into_iter().filter(begins).collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(Failure::usage("no_code", "no code of this device has that id")
                .hint("kin codes lists them with their ids; the first four characters are enough")),
            _ => Err(Failure::usage("ambiguous", "several codes begin so").hint("kin codes")),
        }
    }

    pub(in crate::device) fn revoke_code(&mut self, text: &str) -> Result<Value, Failure> {
        let mut code = self.find_code(text)?;
        self.store.revoke_code(&code.terms.id).map_err(lost)?;
        code.terms.revoked = true;
        self.code_changed(&code.terms.id);
        let now = self.code_time();
        self.answer_waiting(&code, now);
        answer(self.code_line(&code, now)?)
    }

    pub(in crate::device) fn resume_code(&mut self, text: &str) -> Result<Value, Failure> {
        let mut code = self.find_code(text)?;
        self.store.resume_code(&code.terms.id).map_err(lost)?;
        code.terms.suspended = false;
        self.code_changed(&code.terms.id);
        let now = self.code_time();
        self.answer_waiting(&code, now);
        answer(self.code_line(&code, now)?)
    }

    /// A person's word about a device that waits.
    pub(in crate::device) fn answer_code(
        &mut self,
        text: &str,
        device: &str,
        yes: bool,
    ) -> Result<Value, Failure> {
        let code = self.find_code(text)?;
        let asks = self.store.code_asks(&code.terms.id).map_err(lost)?;
        let one = asked_by(&asks, device)?.clone();
        let now = self.code_time();
        if let (true, Some(why)) = (yes, self.code_ended(&code, now)?) {
            // It is told so now, instead of waiting for nothing.
            self.answer_waiting(&code, now);
            let message = format!("{} is not let in to {}: {why}", one.name, code.folder_name);
            return Err(Failure::refused(message).hint("give it another code: kin share --code"));
        }
        self.store.consent_to_code(&code.terms.id, &one.device, yes).map_err(lost)?;
        self.answer_waiting(&code, now);
        answer(self.code_line(&code, now)?)
    }

    /// Why a code lets nobody in any more, in words; one that is suspended may again.
    fn code_ended(&self, code: &StoredCode, now: i64) -> Result<Option<&'static str>, Failure> {
        Ok(match self.code_line(code, now)?.state.as_str() {
            "expired" => Some("the code's time was over"),
            "used_up" => Some("the code was used up"),
            "revoked" => Some("the code was taken back, or this device is no admin any more"),
            "folder_gone" => Some("the folder is not shared any more"),
            _ => None,
        })
    }

    /// Judges again those who wait for a person's word, since something has changed.
    fn answer_waiting(&mut self, code: &StoredCode, now: i64) {
        let Ok(asks) = self.store.code_asks(&code.terms.id) else { return };
        for ask in asks {
            let Ok(name) = Name::new(&ask.name) else { continue };
            let joiner = Recipient { device: ask.device, inbox: ask.inbox };
            // What it proved when it came holds still.
            let hello = Hello { lookup: code.terms.lookup, inbox: ask.inbox, name, mac: [0; 32] };
            self.judge_hello(code, &joiner, &hello, now, Via::Mail);
        }
    }

    /// True if any code might still let somebody in, so that strangers' letters are worth opening.
    pub(in crate::device) fn has_codes(&mut self) -> bool {
        let since = self.code_time().saturating_sub(TOLD_FOR);
        self.store.has_codes(since).unwrap_or(false)
    }
}

/// The device that a person means of those that asked with a code. A name is chosen by whoever asks: it means one only
/// if nobody else ever gave it, whatever became of them, and what begins as an id does is none.
fn asked_by<'a>(asks: &'a [StoredAsk], text: &str) -> Result<&'a StoredAsk, Failure> {
    let by_id = text.len() >= 7 && text.starts_with("kd1");
    let meant = |ask: &&StoredAsk| match by_id {
        true => ask.device.to_string().starts_with(text),
        false => ask.name == text,
    };
    let mut found = asks.iter().filter(meant);
    match (found.next(), found.next()) {
        (Some(one), None) if one.consent.is_none() => Ok(one),
        (Some(one), None) => {
            let message = format!("{} does not wait any more: it has had its answer", one.name);
            Err(Failure::usage("no_device", message)
                .hint("if it is to come in after a no, give it another code: kin share --code"))
        }
        (None, _) => {
            Err(Failure::usage("no_device", "no device that asked with this code is meant")
                .hint("kin codes lists them; give the beginning of the device's id"))
        }
        _ => {
            Err(Failure::usage("no_device", "several devices that asked with this code are meant")
                .hint("kin codes lists them; give more of the device's id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use identity::InboxId;

    use super::*;

    fn ask(byte: u8, name: &str, consent: Option<bool>) -> StoredAsk {
        let (device, inbox) = (DeviceId([byte; 32]), InboxId([byte; 32]));
        StoredAsk { device, inbox, name: name.to_owned(), at: 0, consent }
    }

    #[test]
    fn t18_who_is_let_in_by_a_name_is_nobody_that_took_it_over() {
        let whose =
            |asks: &[StoredAsk], text: &str| asked_by(asks, text).ok().map(|ask| ask.device);
        let waits = [ask(1, "phone", None), ask(2, "tv", None)];
        assert_eq!(whose(&waits, "phone"), Some(DeviceId([1; 32])));
        assert_eq!(whose(&waits, "radio"), None);
        // The name of one that has had its answer, or waits as well.
        for before in [Some(true), Some(false), None] {
            let asks = [ask(1, "phone", before), ask(2, "phone", None)];
            assert_eq!(whose(&asks, "phone"), None, "{before:?}");
            let id = DeviceId([2; 32]).to_string();
            assert_eq!(whose(&asks, &id[..12]), Some(DeviceId([2; 32])));
        }
        // A name that looks like the beginning of another's id.
        let id = DeviceId([1; 32]).to_string()[..12].to_owned();
        for before in [Some(true), None] {
            let asks = [ask(1, "phone", before), ask(2, &id, None)];
            let meant = before.is_none().then_some(DeviceId([1; 32]));
            assert_eq!(whose(&asks, &id), meant, "{before:?}");
        }
        let answered = [ask(1, "phone", Some(true))];
        assert!(asked_by(&answered, "phone").unwrap_err().message.contains("had its answer"));
    }
}

//! Sharing codes (rules T14, T16 to T20): what this device issued, and judges when somebody says hello with
//! one; and joins by codes that it was given. docs/protocol.md, section 23.

mod asked;
mod issue;
mod joining;
mod search;

pub(super) use asked::{Asked, Question};

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use identity::DeviceId;
use pairing::{
    Side,
    code::{Present, Standing, TOLD_FOR, Verdict, judge},
    grants,
};
use wire::{
    code::{Hello, Invitation, LookupId, Message, Refusal, Way},
    device::Message as Say,
    envelope::{Letter, Recipient},
    membership::{Action, Ceremony, CodeId, FolderId, GroupId, Operation, Role},
};

use super::{
    dirs::Leavings,
    groups::{GroupError, hex},
    hub::{Hub, random, wall},
    links::STEP,
    store::StoredCode,
};
use crate::{api::ApiEvent, line::ConnId};

/// What is under way by codes, in memory.
#[derive(Default)]
pub(super) struct Codes {
    /// The code that a person gave, until its offer is answered and what comes of it.
    asking: Option<search::Asking>,
    /// Folders whose directories are looked at, to be kept from then on.
    keeping: BTreeSet<FolderId>,
    /// Directories that are left as they were.
    pub(super) leavings: Leavings,
    /// Tells one stream from the next.
    streams: u64,
    /// The latest time that was persisted.
    latest: i64,
}

/// How a letter came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Via {
    Link(ConnId),
    Mail,
}

/// The setting that holds the latest time this device ever knew.
const LATEST: &str = "latest time";

impl Hub {
    /// Seconds since 1970: never less than this device has known before (rule T19).
    pub(super) fn code_time(&mut self) -> i64 {
        let stored = || {
            let bytes = self.store.setting(LATEST).ok()??;
            Some(i64::from_be_bytes(bytes.try_into().ok()?))
        };
        if self.codes.latest == 0 {
            self.codes.latest = stored().unwrap_or(0);
        }
        let now = wall();
        if now > self.codes.latest {
            self.codes.latest = now;
            if let Err(error) = self.store.set(LATEST, &now.to_be_bytes()) {
                self.fail(&error.to_string());
            }
        }
        self.codes.latest
    }

    /// A time that this device has known.
    #[cfg(test)]
    pub(in crate::device) fn codes_know(&mut self, time: i64) {
        self.codes.latest = time;
    }

    /// A letter about a code. True if its author came far enough to be remembered.
    pub(super) fn code_letter(&mut self, letter: &Letter, via: Via) -> bool {
        let Ok(message) = Message::decode(letter.kind, &letter.body) else { return false };
        if let Message::Admitted { lookup, .. }
        | Message::Refused { lookup, .. }
        | Message::Waits { lookup, .. } = &message
            && let Via::Link(id) = via
            && let Some(conn) = self.conns.get_mut(&id)
        {
            conn.asked.letter(*lookup);
        }
        match message {
            Message::Hello(hello) => self.heard_code_hello(letter, &hello, via),
            Message::Admitted { lookup, group } => {
                self.heard_code_admitted(&letter.author, &lookup, group, via)
            }
            Message::Refused { lookup, why } => self.heard_refused(&letter.author, &lookup, why),
            Message::Waits { lookup, why } => self.heard_waits(&letter.author, &lookup, why),
        }
    }

    /// Somebody lets itself in with a code, or tries to.
    fn heard_code_hello(&mut self, letter: &Letter, hello: &Hello, via: Via) -> bool {
        let now = self.code_time();
        let joiner = Recipient { device: letter.author, inbox: hello.inbox };
        let stored = match self.store.code_at(&hello.lookup) {
            Ok(stored) => stored.filter(|code| now < code.terms.expires.saturating_add(TOLD_FOR)),
            Err(error) => {
                self.fail(&error.to_string());
                return false;
            }
        };
        let Some(code) = stored else {
            // Costs nothing that a stranger could use up: a letter would have a number, which is kept.
            if let Via::Link(id) = via
                && let Some(conn) = self.conns.get(&id)
            {
                conn.say(Say::Invitation(Bytes::new()));
            }
            return false;
        };
        let exporter = match via {
            Via::Mail => None,
            Via::Link(id) => self.conns.get(&id).map(|conn| conn.line.exporter),
        };
        let way = exporter.as_ref().map_or(Way::Mail, Way::Link);
        if !code.terms.is_proven(&self.me, &joiner.device, hello, way) {
            return false;
        }
        self.judge_hello(&code, &joiner, hello, now, via);
        // Whoever was refused leaves no more than that behind.
        !self.groups.shared_with(&joiner.device).is_empty()
            || self.store.code_asks(&code.terms.id).is_ok_and(|asks| {
                asks.iter().any(|ask| ask.device == joiner.device && ask.consent.is_none())
            })
    }

    /// The one place where a code lets a device in.
    fn judge_hello(
        &mut self,
        code: &StoredCode,
        joiner: &Recipient,
        hello: &Hello,
        now: i64,
        via: Via,
    ) {
        let (terms, lookup) = (&code.terms, code.terms.lookup);
        let verdict = match self.present(code, &joiner.device, now) {
            Ok(present) => judge(terms, &joiner.device, &present.as_ref()),
            Err(error) => return self.fail(&error.to_string()),
        };
        match verdict {
            Verdict::Again => self.say_admitted(joiner, lookup, terms.group),
            Verdict::Admit(role, folders) => {
                let action = Action::Admit {
                    device: joiner.device,
                    inbox: joiner.inbox,
                    name: hello.name.clone(),
                    role,
                    folders,
                    ceremony: Ceremony::Code(terms.id),
                };
                let spent = (terms.id, joiner.device, now);
                let group = terms.group;
                let done = self.at_once(|hub| {
                    let signed =
                        hub.groups.spend(&mut hub.store, &hub.key, &group, action, spent)?;
                    hub.mail_operation(group, &signed);
                    if hub.link_to(&joiner.device).is_none() {
                        hub.post_code(joiner, Some(group), &Message::Admitted { lookup, group });
                    }
                    Ok(signed)
                });
                match done {
                    Ok(signed) => {
                        self.spread(terms.group, &[signed], None);
                        if self.link_to(&joiner.device).is_some() {
                            self.say_admitted(joiner, lookup, group);
                        }
                        self.code_changed(&terms.id);
                    }
                    Err(GroupError::Store(error)) => self.fail(&error.to_string()),
                    Err(error) => {
                        tracing::warn!(%error, "a code could not admit");
                        self.refuse_code(code, joiner, hello, Refusal::Revoked, now);
                    }
                }
            }
            Verdict::Wait(why) => {
                let about = (&joiner.device, &joiner.inbox, &hello.name);
                match self.store.ask_for_code(&terms.id, about, now) {
                    Ok(true) => {
                        if let Via::Link(id) = via
                            && let Some(conn) = self.conns.get_mut(&id)
                        {
                            // A person thinks; the link's own sign of life goes on.
                            conn.deadline = None;
                        }
                        self.post_code(joiner, Some(terms.group), &Message::Waits { lookup, why });
                        self.code_changed(&terms.id);
                    }
                    Ok(false) => self.refuse_code(code, joiner, hello, Refusal::Declined, now),
                    Err(error) => self.fail(&error.to_string()),
                }
            }
            Verdict::Refuse(why) => self.refuse_code(code, joiner, hello, why, now),
        }
    }

    fn refuse_code(
        &mut self,
        code: &StoredCode,
        joiner: &Recipient,
        hello: &Hello,
        why: Refusal,
        now: i64,
    ) {
        let about = (&joiner.device, &hello.name);
        if let Err(error) = self.store.note_refusal(&code.terms.id, about, why, now) {
            return self.fail(&error.to_string());
        }
        let lookup = code.terms.lookup;
        self.post_code(joiner, None, &Message::Refused { lookup, why });
        self.code_changed(&code.terms.id);
    }

    fn say_admitted(&mut self, joiner: &Recipient, lookup: LookupId, group: GroupId) {
        self.post_code(joiner, Some(group), &Message::Admitted { lookup, group });
        if let Some(id) = self.link_to(&joiner.device) {
            self.answer_join(id, joiner.device);
        }
    }

    fn post_code(&mut self, to: &Recipient, group: Option<GroupId>, message: &Message) {
        self.send_letter(to, group, message.kind(), message.encode());
    }

    /// Something about a code is other than before.
    fn code_changed(&self, code: &CodeId) {
        self.tell(ApiEvent::CodeChanged { id: hex(&code.0) });
    }

    /// What decides about a joiner now, from the store and the group's log.
    fn present(
        &self,
        code: &StoredCode,
        joiner: &DeviceId,
        now: i64,
    ) -> Result<Held, super::store::StoreError> {
        let terms = &code.terms;
        let mut spent = self.store.code_uses(&terms.id)?;
        let asks = self.store.code_asks(&terms.id)?;
        let consent = asks.iter().find(|ask| ask.device == *joiner).and_then(|ask| ask.consent);
        let mut held = Held {
            now,
            is_admin: false,
            has_folder: false,
            spent: Vec::new(),
            standing: Standing::Stranger,
            was_put_out: false,
            consent,
        };
        if let Some(group) = self.groups.get(&terms.group) {
            let manifest = group.manifest();
            held.is_admin = manifest.is_admin(&self.me);
            held.has_folder = manifest.folders.contains_key(&terms.folder);
            // Any copy of the log that this device has met is in its own by now (rule T18).
            spent.extend(group.log().operations().filter_map(|signed| {
                match &signed.operation().action {
                    Action::Admit { device, ceremony: Ceremony::Code(id), .. }
                        if *id == terms.id =>
                    {
                        Some(*device)
                    }
                    _ => None,
                }
            }));
            let length = usize::try_from(code.log_length).unwrap_or(usize::MAX);
            // The word of a member that may put nobody out is none.
            let may = |author: &DeviceId| {
                manifest.members.get(author).is_none_or(|member| member.role == Role::Admin)
            };
            held.was_put_out = group.log().operations().skip(length).any(|signed| {
                let Operation { author, action, .. } = signed.operation();
                match action {
                    Action::Remove { device } => device == joiner && may(author),
                    Action::Leave => author == joiner,
                    _ => false,
                }
            });
            held.standing = match manifest.members.get(joiner) {
                Some(member) => Standing::Member(member.role, member.folders.clone()),
                None => match group.end_of(joiner) {
                    Some(end) => {
                        let position =
                            group.log().operations().position(|signed| signed.id() == end);
                        // Whoever was out before the code was issued may be meant by it.
                        match position.is_some_and(|position| position < length) {
                            true => Standing::Stranger,
                            false => Standing::PutOut,
                        }
                    }
                    None => Standing::Stranger,
                },
            };
        }
        spent.sort_unstable();
        spent.dedup();
        held.spent = spent;
        Ok(held)
    }

    /// What a yes would give to a device that waits for one, in words (rules T9, T14); empty if nothing would come
    /// of it.
    fn granted_by(
        &self,
        code: &StoredCode,
        joiner: &DeviceId,
        now: i64,
    ) -> Result<String, super::store::StoreError> {
        let mut present = self.present(code, joiner, now)?;
        present.consent = Some(true);
        let Verdict::Admit(role, folders) = judge(&code.terms, joiner, &present.as_ref()) else {
            return Ok(String::new());
        };
        let mut said = grants(role, &folders, Side::Admitting);
        if let Standing::Member(had, in_folders) = &present.standing {
            let before = grants(*had, in_folders, Side::Admitting).swap_remove(0);
            said.insert(0, before.replacen("It will be", "It is a member already,", 1));
        }
        Ok(said.join(" ").trim_end_matches('.').to_owned())
    }

    /// Somebody on a link asks for the invitation of a code.
    pub(super) fn heard_lookup(&mut self, id: ConnId, lookup: &LookupId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.may_ask() {
            return self.cut(id, "it asked for too many codes");
        }
        let now = self.code_time();
        let found = match self.store.code_at(lookup) {
            Ok(found) => found.filter(|code| now < code.terms.expires.saturating_add(TOLD_FOR)),
            Err(error) => return self.fail(&error.to_string()),
        };
        let sealed = found.and_then(|code| self.invitation(&code)).unwrap_or_default();
        if let Some(conn) = self.conns.get_mut(&id) {
            if !sealed.is_empty() && !conn.is_accepted() {
                // Whoever knows that is about to be let in: its person reads.
                conn.deadline = Some(Instant::now() + STEP * 6);
            }
            let bytes = sealed.len();
            if !conn.answer(Say::Invitation(sealed), bytes) {
                self.cut(id, "it does not read what it asked for");
            }
        }
    }

    /// The sealed invitation of a code, as things are now.
    pub(super) fn invitation(&self, code: &StoredCode) -> Option<Bytes> {
        let terms = &code.terms;
        let held = self.groups.get(&terms.group);
        let name = |text: &str| wire::session::Name::new(text).ok();
        let port = self.net.as_ref().map(|net| net.port);
        let invitation = Invitation {
            issuer: self.me,
            inbox: self.inbox.id(),
            issuer_name: self.name.clone(),
            group: terms.group,
            group_name: held.and_then(|held| name(&held.label)).or_else(|| name("group"))?,
            folder: terms.folder,
            folder_name: name(&code.folder_name).or_else(|| name("folder"))?,
            role: terms.role,
            expires: terms.expires,
            addresses: port.map(link::own_addresses).unwrap_or_default(),
            mail: self.own_mail(),
        };
        let nonce = random().ok()?;
        match invitation.seal(&terms.keys(), &self.key, &nonce) {
            Ok(sealed) => Some(sealed),
            Err(error) => {
                tracing::warn!(%error, "an invitation was not sealed");
                None
            }
        }
    }

    /// Operations of this device's own that it did not have: what it knows of its codes may be old (rule T18).
    pub(super) fn look_for_own(&mut self, new: &[wire::membership::SignedOperation]) {
        if new.iter().any(|signed| signed.operation().author == self.me) {
            let why = "operations of this device came back that it did not have: its state looks restored";
            self.suspend_codes(why);
        }
    }

    /// This device's state looks restored (rule T18): codes wait for a person's word.
    pub(super) fn suspend_codes(&mut self, why: &str) {
        let now = self.code_time();
        match self.store.suspend_codes(now) {
            Ok(0) => {}
            Ok(_) => {
                let message = format!("{why}, so sharing codes let nobody in");
                self.complain("codes", &message, "kin codes lists them; kin codes resume ID");
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }
}

/// [`Present`], with what it refers to.
struct Held {
    now: i64,
    is_admin: bool,
    has_folder: bool,
    spent: Vec<DeviceId>,
    standing: Standing,
    was_put_out: bool,
    consent: Option<bool>,
}

impl Held {
    fn as_ref(&self) -> Present<'_> {
        let Self { now, is_admin, has_folder, ref spent, ref standing, was_put_out, consent } =
            *self;
        let standing = standing.clone();
        Present { now, is_admin, has_folder, spent, standing, was_put_out, consent }
    }
}

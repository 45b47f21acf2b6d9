//! Sharing codes as their issuer judges them (rules T14 and T16 to T19). Pure: what is stored, what the group's
//! log says and what time it is come in as arguments; what comes out is to be made durable in one go.

use identity::{DeviceId, InboxId, Secret};
use wire::{
    code::{Code, CodeKeys, Greeting, Hello, LookupId, Refusal, Wait, Way},
    membership::{CodeId, FolderId, GroupId, Role, Scope},
};

/// How long a code is good for if nothing else is said, in seconds (rule T9).
pub const EXPIRES: i64 = 24 * 3600;
/// The longest, in seconds.
pub const MAX_EXPIRES: i64 = 366 * 24 * 3600;
/// Most devices that one code is for.
pub const MAX_USES: u32 = 1000;
/// How long after its end a code's issuer still says why it lets nobody in, in seconds (rule T19).
pub const TOLD_FOR: i64 = 30 * 24 * 3600;

/// What a code's issuer has in its own database: the terms, which nobody else enforces.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Names the code.
    pub id: CodeId,
    /// Where it is looked up.
    pub lookup: LookupId,
    /// What proves it.
    pub proof: Secret<[u8; 32]>,
    /// Seals its invitation.
    pub seal: Secret<[u8; 32]>,
    /// Whose folder.
    pub group: GroupId,
    /// The folder that it is for (rule T14).
    pub folder: FolderId,
    /// The role that it gives.
    pub role: Role,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
    /// For how many devices.
    pub uses: u32,
    /// Each use waits for a person's yes.
    pub ask: bool,
    /// It was taken back.
    pub revoked: bool,
    /// It waits until a person says that codes go on (rule T18).
    pub suspended: bool,
}

impl Terms {
    /// The keys of the code, without the code.
    #[must_use]
    pub fn keys(&self) -> CodeKeys {
        CodeKeys {
            id: self.id,
            lookup: self.lookup,
            seal: self.seal.clone(),
            proof: self.proof.clone(),
        }
    }

    /// True if the hello proves the code: the MAC holds for this issuer, this joiner and this way.
    #[must_use]
    pub fn is_proven(
        &self,
        issuer: &DeviceId,
        joiner: &DeviceId,
        hello: &Hello,
        way: Way<'_>,
    ) -> bool {
        let greeting = Greeting { lookup: &self.lookup, issuer, joiner, inbox: &hello.inbox };
        hello.lookup == self.lookup && greeting.proves(&self.proof, way, &hello.mac)
    }
}

/// What the joiner is to the group now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody that the group knows.
    Stranger,
    /// A member, with this role in these folders.
    Member(Role, Scope),
    /// Put out, or gone, after the code was issued.
    PutOut,
}

/// What else decides, at the moment when a hello is handled.
#[derive(Clone, Debug)]
pub struct Present<'a> {
    /// The latest time that this device ever knew, in seconds since 1970: a clock that was set back changes
    /// nothing (rule T19).
    pub now: i64,
    /// The issuer is an admin of the group still.
    pub is_admin: bool,
    /// The group has the folder still.
    pub has_folder: bool,
    /// Devices that were admitted under this code, in the database or in any copy of the log (rule T18).
    pub spent: &'a [DeviceId],
    /// What the joiner is.
    pub standing: Standing,
    /// The group has put the joiner out since the code was issued, whatever it is now.
    pub was_put_out: bool,
    /// What the issuer's person said of this joiner, if it was asked.
    pub consent: Option<bool>,
}

/// What becomes of a hello that proves its code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has what the code gives already: the same answer again, and no use is spent.
    Again,
    /// Admit it with this role to these folders, and spend a use, in one transaction.
    Admit(Role, Scope),
    /// Nothing yet.
    Wait(Wait),
    /// Nothing comes of it.
    Refuse(Refusal),
}

/// Judges a hello that proves the code.
#[must_use]
pub fn judge(terms: &Terms, joiner: &DeviceId, present: &Present<'_>) -> Verdict {
    let used = present.spent.contains(joiner);
    let given = match &present.standing {
        Standing::Member(role, folders) => {
            let (more_role, more_folders) = grown(terms, *role, folders);
            if more_role == *role && more_folders == *folders {
                return Verdict::Again;
            }
            if used {
                // An admin has given it less since: the code does not undo that.
                return Verdict::Again;
            }
            if present.was_put_out {
                // Who let it in again has said what it may do now.
                return Verdict::Refuse(Refusal::Revoked);
            }
            (more_role, more_folders)
        }
        // Whom the group has put out does not come back by its own doing.
        Standing::PutOut => return Verdict::Refuse(Refusal::Revoked),
        Standing::Stranger if used => return Verdict::Refuse(Refusal::Revoked),
        Standing::Stranger => (terms.role, Scope::List(vec![terms.folder])),
    };
    if terms.revoked || !present.is_admin {
        return Verdict::Refuse(Refusal::Revoked);
    }
    if present.now >= terms.expires {
        return Verdict::Refuse(Refusal::Expired);
    }
    if !present.has_folder {
        return Verdict::Refuse(Refusal::FolderGone);
    }
    let spent = u32::try_from(present.spent.len()).unwrap_or(u32::MAX);
    if spent >= terms.uses {
        return Verdict::Refuse(Refusal::UsedUp);
    }
    if terms.suspended {
        return Verdict::Wait(Wait::Suspended);
    }
    let asks = terms.ask || gives_more(terms, &present.standing, &given);
    match (asks, present.consent) {
        (true, None) => Verdict::Wait(Wait::Asked),
        (_, Some(false)) => Verdict::Refuse(Refusal::Declined),
        _ => Verdict::Admit(given.0, given.1),
    }
}

/// True if a member would get more by the code than the code says, which only a person may agree to: a role holds
/// for all folders that a device may have, so one for this folder may raise what it may do in others, or its own
/// role may be more than the code's.
fn gives_more(terms: &Terms, standing: &Standing, (role, folders): &(Role, Scope)) -> bool {
    let Standing::Member(had, scope) = standing else { return false };
    let only = Scope::List(vec![terms.folder]);
    let raises_others = role > had && *folders != only;
    let more_here = folders != scope && *role > terms.role && *had != Role::Admin;
    raises_others || more_here
}

/// What a member has with the code besides what it had: nothing less.
fn grown(terms: &Terms, role: Role, folders: &Scope) -> (Role, Scope) {
    let folders = match folders {
        Scope::All => Scope::All,
        Scope::List(list) => {
            let mut list = list.clone();
            list.push(terms.folder);
            list.sort_unstable();
            list.dedup();
            Scope::List(list)
        }
    };
    (role.max(terms.role), folders)
}

/// A code's holder says hello.
#[must_use]
pub fn hello(
    saved: &wire::code::SavedCodeJoin,
    issuer: &DeviceId,
    me: (&DeviceId, &InboxId, &wire::session::Name),
    way: Way<'_>,
) -> Hello {
    let (joiner, inbox, name) = me;
    let greeting = Greeting { lookup: &saved.lookup, issuer, joiner, inbox };
    Hello {
        lookup: saved.lookup,
        inbox: *inbox,
        name: name.clone(),
        mac: greeting.mac(&saved.proof, way),
    }
}

/// Terms with what rule T9 says where a person said nothing.
#[must_use]
pub fn issue(code: &Code, group: GroupId, folder: FolderId, now: i64) -> Terms {
    let CodeKeys { id, lookup, seal, proof } = code.keys();
    Terms {
        id,
        lookup,
        proof,
        seal,
        group,
        folder,
        role: Role::Reader,
        expires: now.saturating_add(EXPIRES),
        uses: 1,
        ask: false,
        revoked: false,
        suspended: false,
    }
}

//! What a stream tells: one JSON object a line, the same that commands print with `--json`.

use serde::{Deserialize, Serialize};

/// One thing worth telling. Text from outside is unescaped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ApiEvent {
    /// A pairing looks for others.
    Searching {
        /// This device's id.
        device: String,
        /// This device's name.
        name: String,
        /// The port it listens on.
        port: u16,
    },
    /// Somebody who may be the other side. With more than one, choose by number.
    Candidate {
        /// From 1.
        number: u32,
        /// Its name: a hint.
        name: String,
        /// Where it is.
        addr: String,
    },
    /// A pairing window is open.
    Token {
        /// `kt1…`.
        token: String,
        /// `kin:…`.
        link: String,
        /// When it closes, in seconds since 1970.
        expires: i64,
    },
    /// Somebody who has the token asks to join. A question: answer yes to admit this one.
    Request {
        /// The question's number.
        id: u32,
        /// Device id.
        device: String,
        /// What it calls itself.
        name: String,
        /// Both sides show the same.
        sas: String,
        /// What a yes grants, in words.
        grants: String,
    },
    /// A question: is this the device that is meant?
    Confirm {
        /// The question's number.
        id: u32,
        /// Device id, proven.
        device: String,
        /// What it calls itself.
        name: String,
        /// Both sides show the same.
        sas: String,
        /// What a yes grants, in words.
        grants: String,
    },
    /// A question, asked after the device was confirmed.
    Ask {
        /// The question's number.
        id: u32,
        /// `ssh`.
        about: String,
        /// `in`: may it log in here; `out`: does this device want to log in there.
        direction: String,
        /// The other device's id.
        device: String,
        /// The other device's name.
        name: String,
    },
    /// A question needs no answer any more.
    Withdrawn {
        /// The question's number.
        id: u32,
        /// Why, in words.
        reason: String,
    },
    /// The other side's person is still to answer.
    Waiting {
        /// For whom.
        name: String,
    },
    /// Both devices hold each other.
    Paired {
        /// Device id.
        device: String,
        /// What it calls itself.
        name: String,
        /// The group: what this device calls it.
        group: String,
        /// The role of the device that joined.
        role: String,
    },
    /// It came to nothing.
    Refused {
        /// Why, in words.
        reason: String,
    },
    /// Nobody came in time.
    Timeout,
    /// A join waits, durably, until the other device admits it.
    Pending {
        /// For whom; empty while the issuer of a code is looked for.
        device: String,
        /// By a code: looking, offline, asked or suspended.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A question: what a sharing code is for. A yes joins.
    Offer {
        /// The question's number.
        id: u32,
        /// Folder id.
        folder: String,
        /// What the folder is called.
        name: String,
        /// What the device calls itself that issued the code.
        from: String,
        /// Its id.
        device: String,
        /// The role that this device gets.
        role: String,
        /// What the issuer calls the group.
        group: String,
        /// When the code ends, in seconds since 1970.
        expires: i64,
        /// What a yes gives, in words.
        grants: String,
    },
    /// The folder of a sharing code is kept in step here.
    Joined {
        /// Folder id.
        folder: String,
        /// Where.
        dir: std::path::PathBuf,
        /// This device's role.
        role: String,
    },
    /// Something about a sharing code changed: ask for `codes`.
    CodeChanged {
        /// The code's id.
        id: String,
    },
    /// A device's link is up.
    DeviceOnline {
        /// Device id.
        device: String,
        /// What it calls itself.
        name: String,
    },
    /// A device's link is gone.
    DeviceOffline {
        /// Device id.
        device: String,
        /// What it calls itself.
        name: String,
    },
    /// SSH with a device is set up, in one direction.
    Installed {
        /// Device id.
        device: String,
        /// With `to_peer` what to type behind `ssh`, with `from_peer` what the device calls itself.
        name: String,
        /// The user who is logged in as: there, or here.
        user: String,
        /// The device's address.
        addr: String,
        /// The port of the SSH server: there, or here.
        port: u16,
        /// Fingerprint of the user's key that opens it.
        key: String,
        /// `to_peer`: this device gets in there; `from_peer`: it gets in here.
        direction: String,
    },
    /// A device does not belong any more, and what was installed for SSH with it is taken away.
    SshRemoved {
        /// Device id.
        device: String,
        /// What it called itself.
        name: String,
    },
    /// Members, roles or folders of a group changed.
    GroupChanged {
        /// The group: what this device calls it.
        group: String,
    },
    /// Something about a folder changed: ask for its state.
    FolderChanged {
        /// Folder id.
        folder: String,
    },
    /// A folder and every linked device that has it agree, durably (rule E25).
    InSync {
        /// Folder id.
        folder: String,
    },
    /// Deletions are held until a person agrees (rule E19): `resume` with `accept_deletes`.
    Brake {
        /// Folder id.
        folder: String,
        /// Files deleted within 24 hours, with those that are held.
        deletes: u64,
        /// Of how many.
        of: u64,
        /// Names of the devices that deleted them.
        from: String,
    },
    /// Something failed; the device goes on.
    Error {
        /// A stable word.
        kind: String,
        /// What happened.
        message: String,
        /// What to do next.
        hint: String,
    },
    /// The last event.
    Stopped,
}

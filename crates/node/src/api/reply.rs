//! Answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A device, as `kin devices --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceLine {
    /// Device id.
    pub device: String,
    /// What it calls itself (unescaped).
    pub name: String,
    /// admin, writer, reader or keeper.
    pub role: String,
    /// The group: what this device calls it.
    pub group: String,
    /// True if a link is up.
    pub online: bool,
    /// When a link was last up, in seconds since 1970; absent if never.
    pub last_seen: Option<i64>,
    /// True for this device.
    pub me: bool,
}

/// How a folder is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderState {
    /// In step with every device that is linked, or nobody is.
    Idle,
    /// Being looked through.
    Scanning,
    /// Something moves.
    Syncing,
    /// A person paused it.
    Paused,
    /// It does not run; `reason` says why.
    Stopped,
    /// The group has it, this device does not.
    NotJoined,
}

/// A folder, as `kin folders --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FolderLine {
    /// Folder id.
    pub folder: String,
    /// Its name (unescaped).
    pub name: String,
    /// Where it is here; absent if it was not joined.
    pub dir: Option<PathBuf>,
    /// The group: what this device calls it.
    pub group: String,
    /// How it is doing.
    pub state: FolderState,
    /// Why it is stopped, or what holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Files, links and directories on this disk.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files to be brought here.
    pub need_files: u64,
    /// Bytes to be brought here.
    pub need_bytes: u64,
    /// Conflict copies in the tree.
    pub conflicts: u64,
    /// What this device may do in it: admin, writer, reader, keeper or none.
    pub role: String,
    /// What it does here.
    pub mode: super::FolderMode,
}

/// A group, as `kin group list --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupLine {
    /// Group id.
    pub group: String,
    /// What this device calls it.
    pub name: String,
    /// True for the one that commands mean.
    pub used: bool,
    /// What this device may do: admin, writer, reader, keeper, or removed.
    pub role: String,
    /// Devices.
    pub devices: u64,
    /// Folders.
    pub folders: u64,
    /// What a person should know: a fork, no admin left.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A join that was begun and is not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinLine {
    /// Whom this device waits for.
    pub device: String,
    /// What it calls itself (unescaped).
    pub name: String,
    /// lan, token, code or rescue.
    pub ceremony: String,
    /// When it began, in seconds since 1970.
    pub since: i64,
}

/// A device that asks this one to go along into the group that it made of an old one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvitationLine {
    /// Who asks.
    pub device: String,
    /// What it calls itself (unescaped).
    pub name: String,
    /// The role that this device had in the old group, and so has in the new one.
    pub role: String,
    /// Folders of this device that go along, if they are in the new group (unescaped).
    pub folders: Vec<String>,
}

/// What joining a folder would do here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Files that come here.
    pub adds: u64,
    /// Files that differ: the one here or the other one becomes a conflict copy.
    pub conflicts: u64,
    /// Files that go from here.
    pub deletes: u64,
    /// Files that go from here to the others.
    pub sends: u64,
    /// False if nobody who has the folder is linked, so that nothing is known.
    pub known: bool,
}

/// Why a path is as it is here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WhyReply {
    /// The path (unescaped).
    pub path: String,
    /// True if something is there on this device.
    pub here: bool,
    /// The last decision about it, in words.
    pub decision: String,
    /// The rule by which it was made.
    pub rule: String,
    /// What can be done about it; may be empty.
    pub remedy: String,
    /// What is known of it, what the devices show first.
    pub versions: Vec<VersionLine>,
}

/// One version of a path that nobody has replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionLine {
    /// file, link, directory or deleted.
    pub kind: String,
    /// Bytes of a file.
    pub size: u64,
    /// When it was written, in nanoseconds since 1970; 0 if that says nothing.
    pub mtime: i64,
    /// Names of the devices that signed for it; this one's if it was made here.
    pub devices: Vec<String>,
    /// True if it is kept in a conflict copy.
    pub conflict: bool,
}

/// A conflict copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConflictLine {
    /// Where it is (unescaped).
    pub copy: String,
    /// The path at which it lost (unescaped).
    pub path: String,
}

/// A change that is not shared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalLine {
    /// Where (unescaped).
    pub path: String,
    /// added, edited or deleted.
    pub kind: String,
}

/// What was undone.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct UndoReply {
    /// Paths whose earlier contents are back (unescaped).
    pub restored: Vec<String>,
    /// Paths that somebody else has changed since: they stay (unescaped).
    pub changed_since: Vec<String>,
    /// What could not be brought back, and why (unescaped).
    pub failed: Vec<String>,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// A stable word.
    pub kind: String,
    /// The folder's name; absent if it is about the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// What is wrong, with which file or device (unescaped).
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// Everything at a glance, as `kin status --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusReply {
    /// This device's id.
    pub device: String,
    /// This device's name (unescaped).
    pub name: String,
    /// True if the device runs in the background; else this is what its state says.
    pub running: bool,
    /// The port it listens on; 0 if it does not run.
    pub port: u16,
    /// Devices of all groups.
    pub devices: Vec<DeviceLine>,
    /// Folders of all groups.
    pub folders: Vec<FolderLine>,
    /// Groups.
    pub groups: Vec<GroupLine>,
    /// Joins that are not done.
    #[serde(default)]
    pub joins: Vec<JoinLine>,
    /// What is wrong.
    pub errors: Vec<Trouble>,
}

/// A sharing code that was just issued. It is told this once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuedCode {
    /// Always `code`: this is an event of `kin share --code`.
    pub event: String,
    /// Names it in `kin codes`.
    pub id: String,
    /// `kc1…`.
    pub code: String,
    /// `kin:join/kc1…`.
    pub link: String,
    /// The role that it gives.
    pub role: String,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
    /// For how many devices.
    pub uses: u32,
    /// Folder id.
    pub folder: String,
    /// What the folder is called (unescaped).
    pub name: String,
    /// The group: what this device calls it.
    pub group: String,
    /// True if each use waits for a yes.
    pub ask: bool,
    /// Why no relay has it yet; empty while one is being asked. Absent if one has it, or this device uses none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unposted: Option<String>,
}

/// A sharing code, as `kin codes --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CodeLine {
    /// Its id, which is not the code.
    pub id: String,
    /// What the folder was called (unescaped).
    pub folder: String,
    /// The group: what this device calls it.
    pub group: String,
    /// The role that it gives.
    pub role: String,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
    /// For how many more devices.
    pub uses_left: u32,
    /// Names of the devices that were let in by it (unescaped).
    pub used_by: Vec<String>,
    /// open, expired, used_up, revoked, folder_gone or suspended.
    pub state: String,
    /// True if each use waits for a yes.
    pub ask: bool,
    /// Devices that wait for it.
    pub waiting: Vec<CodeAsk>,
    /// Devices that were refused.
    pub refused: Vec<CodeRefusal>,
    /// Of an open one: why no relay has it yet; empty while one is being asked. Absent if one has it, or this device
    /// uses none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unposted: Option<String>,
}

/// A device that waits for a yes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CodeAsk {
    /// Device id.
    pub device: String,
    /// What it calls itself (unescaped).
    pub name: String,
    /// Since when, in seconds since 1970.
    pub at: i64,
    /// What a yes gives it, in words; empty if nothing would come of it.
    #[serde(default)]
    pub grants: String,
}

/// A device that a code did not let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CodeRefusal {
    /// Device id.
    pub device: String,
    /// What it calls itself (unescaped).
    pub name: String,
    /// expired, used_up, revoked, folder_gone or declined.
    pub reason: String,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// A relay that this device uses, as `kin relay list --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelayLine {
    /// Its address, `kin:relay/…`.
    pub relay: String,
    /// True while this device receives its mailbox there.
    pub connected: bool,
    /// Why it is not reached; empty if it is, or was not tried.
    pub trouble: String,
    /// Letters of this device that wait to be left at any relay.
    pub waiting: u64,
}

/// How it is with SSH between a device and this one, as `kin ssh allow --json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SshReply {
    /// Device id.
    pub device: String,
    /// What it calls itself (unescaped).
    pub name: String,
    /// True if a link to it is up; else it is installed when one is.
    pub linked: bool,
    /// True if it may log in here.
    pub allowed: bool,
    /// True if this device wants to log in there.
    pub wanted: bool,
    /// True if its key was just installed here.
    pub installed: bool,
    /// What to type behind `ssh` to get there, if that was just set up.
    pub alias: Option<String>,
}

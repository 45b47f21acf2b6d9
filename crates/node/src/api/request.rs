//! Requests.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;

/// The field that holds a request's name where it is one object.
const TAG: &str = "request";

/// One request. Over the socket: `POST /v1/NAME`, the fields as a JSON object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Everything at a glance.
    Status,
    /// Devices of a group, or of all.
    Devices {
        /// Group: name or the beginning of its id; all if absent.
        #[serde(default)]
        group: Option<String>,
    },
    /// Folders of all groups.
    Folders,
    /// This device's groups.
    Groups,
    /// Everything that happens from now on, as a stream; what a late listener must know comes first.
    Events,

    /// Pairs on the local network; a stream that ends with `paired`, `refused` or `timeout`.
    Pair(PairLan),
    /// Opens a pairing window and shows a token; a stream.
    PairToken(PairToken),
    /// Joins by a token; a stream.
    PairJoin {
        /// The token or link.
        token: String,
        /// The only device to be accepted, which is not asked about (rule T6).
        #[serde(default)]
        expect_device: Option<String>,
    },
    /// Closes the pairing window.
    PairCancel,
    /// Joins that were begun and are not done.
    PairStatus,
    /// Gives up joins that were begun.
    PairAbandon,
    /// Answers a question.
    Answer {
        /// Its number.
        id: u32,
        /// Yes or no.
        yes: bool,
    },
    /// Chooses among the candidates of a pairing.
    Choose {
        /// The number of the candidate, from 1.
        number: u32,
    },

    /// Gives a device another name.
    RenameDevice {
        /// Name, id or the beginning of one; this device if absent.
        #[serde(default)]
        device: Option<String>,
        /// The new name.
        name: String,
    },
    /// Removes a device from the group.
    RemoveDevice {
        /// Name, id or the beginning of one.
        device: String,
        /// In which group.
        #[serde(default)]
        group: Option<String>,
    },
    /// Gives a device another role.
    SetRole {
        /// Name, id or the beginning of one.
        device: String,
        /// admin, writer, reader or keeper.
        role: String,
        /// In which group.
        #[serde(default)]
        group: Option<String>,
    },
    /// Gives this device a new key, in all its groups.
    RotateKey,

    /// Creates a group with this device alone.
    CreateGroup {
        /// What this device calls it.
        name: String,
    },
    /// Makes a group the one that commands mean.
    UseGroup {
        /// Name or the beginning of its id.
        group: String,
    },
    /// Leaves a group.
    LeaveGroup {
        /// Name or the beginning of its id; the one in use if absent.
        #[serde(default)]
        group: Option<String>,
        /// Leave although nobody else is an admin.
        #[serde(default)]
        last_admin: bool,
    },
    /// Makes a new group of an old one's folders and some of its devices (rule T11).
    RescueGroup {
        /// The old group.
        #[serde(default)]
        group: Option<String>,
        /// Who comes along: names or ids; all members if empty.
        #[serde(default)]
        devices: Vec<String>,
    },
    /// Which devices ask this one to go along into a new group.
    Invitations,
    /// Goes along into the group that a device made of an old one; the folders here follow.
    FollowGroup {
        /// That device: its name or the beginning of its id.
        device: String,
    },

    /// Shares a directory with a group.
    Share {
        /// Absolute path.
        dir: PathBuf,
        /// The folder's name; that of the directory if absent.
        #[serde(default)]
        name: Option<String>,
        /// The group; the one in use if absent.
        #[serde(default)]
        group: Option<String>,
        /// What the folder does here.
        #[serde(default)]
        mode: FolderMode,
    },
    /// What a join would do: files to add, conflicts, deletions.
    JoinPlan {
        /// The folder: name or the beginning of its id.
        folder: String,
        /// Absolute path.
        dir: PathBuf,
    },
    /// Keeps a folder of the group in step here.
    Join {
        /// The folder: name or the beginning of its id.
        folder: String,
        /// Absolute path.
        dir: PathBuf,
        /// What the folder does here.
        #[serde(default)]
        mode: FolderMode,
    },
    /// Stops a folder for a while.
    Pause {
        /// The folder: name, id or directory.
        folder: String,
    },
    /// Goes on with it.
    Resume {
        /// The folder: name, id or directory.
        folder: String,
        /// Agrees to the deletions that are held (rule E19).
        #[serde(default)]
        accept_deletes: bool,
    },
    /// Keeps the folder in step here no more; deletes nothing.
    Forget {
        /// The folder: name, id or directory.
        folder: String,
    },
    /// Takes the folder from the whole group; deletes nothing.
    Unshare {
        /// The folder: name, id or directory.
        folder: String,
    },
    /// What the folder does here.
    SetMode {
        /// The folder: name, id or directory.
        folder: String,
        /// The new mode.
        mode: FolderMode,
    },
    /// Why a path is as it is here: the last decision about it.
    Why {
        /// The folder: name, id or directory.
        folder: String,
        /// The path in it.
        path: String,
    },
    /// The conflict copies of a folder.
    Conflicts {
        /// The folder: name, id or directory.
        folder: String,
    },
    /// Changes made here that are not shared, since this device does not write to the folder.
    LocalChanges {
        /// The folder: name, id or directory.
        folder: String,
    },
    /// Puts back what the others have in place of such changes; what was here goes to history.
    Revert {
        /// The folder: name, id or directory.
        folder: String,
        /// Paths in it, with what is below; all if empty.
        #[serde(default)]
        paths: Vec<String>,
    },
    /// In a folder that only sends: what is here is to count.
    Override {
        /// The folder: name, id or directory.
        folder: String,
        /// Paths in it, with what is below; all if empty.
        #[serde(default)]
        paths: Vec<String>,
    },
    /// Puts back what a device's changes have replaced or deleted, as new changes.
    Undo {
        /// The folder: name, id or directory.
        folder: String,
        /// The device: name, id or the beginning of one.
        from: String,
        /// Changes since this time, in milliseconds since 1970.
        since: u64,
    },
    /// Where a folder is: for commands that read its history.
    Locate {
        /// The folder: name, id or directory.
        folder: String,
    },

    /// Issues a sharing code for a folder.
    ShareCode(ShareCode),
    /// The sharing codes that this device issued.
    Codes,
    /// Takes a sharing code back.
    RevokeCode {
        /// The beginning of its id.
        code: String,
    },
    /// Lets a sharing code go on that was suspended (rule T18).
    ResumeCode {
        /// The beginning of its id.
        code: String,
    },
    /// Answers a device that waits to be let in by a code.
    AnswerCode {
        /// The beginning of the code's id.
        code: String,
        /// The device: its name or the beginning of its id.
        device: String,
        /// Yes or no.
        yes: bool,
    },
    /// Joins by a sharing code; a stream that ends with `joined`, `refused`, `timeout` or `error`.
    JoinCode(JoinCode),
    /// Says what may be done by SSH between a device and this one, and installs it (rule T23).
    SshAllow(SshAllow),
    /// Takes SSH with a device away, in both directions.
    SshForget {
        /// Its id; it need not be a member of anything.
        device: String,
    },
    /// Devices that `kin ssh allow --all` means: the present admins, but for those admitted by a code.
    SshCandidates {
        /// In which group.
        #[serde(default)]
        group: Option<String>,
    },
    /// Connections to this device's SSH server that are open, from where a device was last seen.
    SshSessions {
        /// Its id.
        device: String,
    },

    /// The relays that this device uses.
    Relays,
    /// Uses a relay from now on.
    UseRelay {
        /// Its address, `kin:relay/…`.
        relay: String,
    },
    /// Uses a relay no more.
    ForgetRelay {
        /// Its address, or its host.
        relay: String,
    },

    /// Stops the device.
    Down,
}

impl Request {
    /// The names of all requests, in the order of their declaration.
    pub const NAMES: [&str; 52] = [
        "status",
        "devices",
        "folders",
        "groups",
        "events",
        "pair",
        "pair_token",
        "pair_join",
        "pair_cancel",
        "pair_status",
        "pair_abandon",
        "answer",
        "choose",
        "rename_device",
        "remove_device",
        "set_role",
        "rotate_key",
        "create_group",
        "use_group",
        "leave_group",
        "rescue_group",
        "invitations",
        "follow_group",
        "share",
        "join_plan",
        "join",
        "pause",
        "resume",
        "forget",
        "unshare",
        "set_mode",
        "why",
        "conflicts",
        "local_changes",
        "revert",
        "override",
        "undo",
        "locate",
        "share_code",
        "codes",
        "revoke_code",
        "resume_code",
        "answer_code",
        "join_code",
        "ssh_allow",
        "ssh_forget",
        "ssh_candidates",
        "ssh_sessions",
        "relays",
        "use_relay",
        "forget_relay",
        "down",
    ];

    /// A request by its name and its fields, as they come over the socket.
    ///
    /// # Errors
    /// `unknown_request` if there is none of this name, `bad_request` if a field is missing, wrong or unknown.
    pub fn from_parts(name: &str, mut fields: Map<String, Value>) -> Result<Self, Failure> {
        if !Self::NAMES.contains(&name) {
            return Err(Failure::usage("unknown_request", format!("there is no request {name:?}"))
                .hint("docs/api.md lists the requests; another version of kin may know it"));
        }
        let bad = |why: &str| {
            Failure::usage("bad_request", format!("{name}: {why}"))
                .hint("docs/api.md has the fields of each request")
        };
        if fields.insert(TAG.to_owned(), name.into()).is_some() {
            return Err(bad("the name belongs into the path"));
        }
        let given: Vec<String> = fields.keys().cloned().collect();
        let request: Self =
            serde_json::from_value(fields.into()).map_err(|error| bad(&error.to_string()))?;
        // Of a request without fields, serde takes any; a misspelt one must not be silently nothing.
        let (_, known) = request.to_parts();
        match given.iter().find(|key| *key != TAG && !known.contains_key(*key)) {
            None => Ok(request),
            Some(key) => Err(bad(&format!("unknown field `{key}`"))),
        }
    }

    /// The name and the fields, as they go over the socket.
    #[must_use]
    pub fn to_parts(&self) -> (String, Map<String, Value>) {
        // Every request is an object with its name in it: the declaration above says so, and a test.
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else {
            return Default::default();
        };
        let name = fields.remove(TAG).and_then(|name| name.as_str().map(str::to_owned));
        (name.unwrap_or_default(), fields)
    }

    /// True if it only looks, at what GET may ask for.
    #[must_use]
    pub fn is_look(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Devices { .. }
                | Self::Folders
                | Self::Groups
                | Self::Codes
                | Self::Relays
        )
    }

    /// True if it is answered by a stream of events.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(
            self,
            Self::Events
                | Self::Pair(_)
                | Self::PairToken(_)
                | Self::PairJoin { .. }
                | Self::JoinCode(_)
        )
    }
}

/// What a folder does on this device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderMode {
    /// Sends and receives.
    #[default]
    Both,
    /// Receives only: changes made here stay here.
    Receive,
    /// Sends only: changes made elsewhere are not applied here.
    Send,
}

/// Whose group two devices that pair share from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one that has more than its own device.
    #[default]
    Auto,
    /// This device's.
    Mine,
    /// The other device's.
    Theirs,
}

/// How to pair on the local network.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairLan {
    /// `HOST[:PORT]` of the other device; found by mDNS if absent.
    pub host: Option<String>,
    /// Whose group.
    pub into: Which,
    /// Which of this device's groups; the one in use if absent.
    pub group: Option<String>,
    /// Give up after this many seconds; 300 if absent.
    pub timeout: Option<u64>,
    /// Port to listen on if the device is not running; any if absent.
    pub port: Option<u16>,
    /// The only device to be accepted, which is not asked about (rule T6).
    pub expect_device: Option<String>,
}

/// What may be done by SSH between a device and this one. What is absent stays as it was said before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshAllow {
    /// Name, id or the beginning of one.
    pub device: String,
    /// May it log in here?
    pub into_here: Option<bool>,
    /// Shall this device be able to log in there?
    pub from_here: Option<bool>,
    /// Until when it may log in here, in seconds since 1970; for ever if absent.
    pub expires: Option<i64>,
    /// From which networks, as 10.0.2.0/24; from everywhere if empty.
    pub networks: Vec<String>,
}

/// How to open a pairing window.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairToken {
    /// How long, in seconds; 300 if absent, 86,400 at most.
    pub window: Option<u64>,
    /// admin (if absent), writer, reader or keeper.
    pub role: Option<String>,
    /// Names or ids of folders; all if absent.
    pub folders: Option<Vec<String>>,
    /// Which of this device's groups; the one in use if absent.
    pub group: Option<String>,
    /// Port to listen on if the device is not running; any if absent.
    pub port: Option<u16>,
    /// The only device to be accepted, which is not asked about (rule T6).
    pub expect_device: Option<String>,
}

/// For what a sharing code is issued.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShareCode {
    /// The folder: name, id or directory.
    pub folder: String,
    /// Absolute path of a directory that is to be shared if there is no such folder.
    pub dir: Option<PathBuf>,
    /// The name of a folder that is made; that of the directory if absent.
    pub name: Option<String>,
    /// The group of a folder that is made; one of its own if absent (rule T14).
    pub group: Option<String>,
    /// reader (if absent), writer or keeper.
    pub role: Option<String>,
    /// For how many seconds; 86,400 if absent.
    pub expires: Option<u64>,
    /// For how many devices; 1 if absent.
    pub uses: Option<u32>,
    /// Each use waits for a person's yes.
    pub ask: bool,
}

/// A sharing code that was given to this device, and what is to come of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinCode {
    /// The code or link.
    pub code: String,
    /// Absolute path: where the folder is to be.
    pub dir: PathBuf,
    /// True if it is to be a directory of the folder's name in `dir`.
    #[serde(default)]
    pub under: bool,
    /// What the folder does here.
    #[serde(default)]
    pub mode: FolderMode,
    /// `HOST[:PORT]` of the device that issued the code, where nothing else finds it.
    #[serde(default)]
    pub at: Option<String>,
    /// Look for so many seconds; 300 if absent.
    #[serde(default)]
    pub timeout: Option<u64>,
    /// The only issuer to be accepted, which is not asked about (rule T6).
    #[serde(default)]
    pub expect_device: Option<String>,
    /// Look on the local network; counts only where no device runs yet.
    #[serde(default)]
    pub discovery: bool,
}

//! The protocol of Connecto's program: one compact JSON object a line, tagged by `type`.

use serde::{Deserialize, Serialize};

use wire::session::Name;

use super::{Broken, Claim, End, Me, Myself, Step, Talk, VERSION, key, name, user, words};
use crate::UserName;

/// The version differs.
const CODE_VERSION: u32 = 1;
/// Something else came where a greeting was expected.
const CODE_EXPECTED_HELLO: u32 = 2;
/// Something else came where a key was expected.
const CODE_EXPECTED_KEY: u32 = 3;

/// One line. Fields that are not known are ignored, kinds that are not known are not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
#[allow(missing_docs, reason = "the fields' names are the protocol's")]
pub enum Message {
    /// A pairing device greets a listener.
    Hello { version: u32, device_name: String },
    /// The listener greets back.
    HelloAck { version: u32, device_name: String, verification_code: Option<String> },
    /// The pairing device's key.
    KeyExchange { public_key: String, comment: String },
    /// It is installed.
    KeyAccepted { message: String },
    /// Whom to log in as.
    PairingComplete { ssh_user: String },
    /// No.
    Error { code: u32, message: String },
    /// A device that syncs begins.
    SyncHello {
        version: u32,
        device_name: String,
        initiator_priority: u64,
        public_key: String,
        key_comment: String,
        ssh_user: String,
    },
    /// The other one answers.
    SyncHelloAck {
        version: u32,
        device_name: String,
        public_key: String,
        key_comment: String,
        ssh_user: String,
        accept_sync: bool,
    },
    /// Installed, or not.
    SyncComplete { success: bool, message: String },
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is no message of this protocol.
    pub fn decode(line: &str) -> Result<Self, Broken> {
        serde_json::from_str(line).map_err(|_| Broken::Malformed)
    }

    /// The line, without its end.
    #[must_use]
    pub fn encode(&self) -> String {
        // Strings and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One side of a conversation in JSON.
#[derive(Debug)]
pub struct Json {
    me: Me,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    // A listener.
    Listen,
    Greeted { name: Name },
    Asked { claim: Claim },
    Installing,
    // A pairing device.
    Pair,
    HelloSent,
    Offering { claim: Claim },
    KeySent { claim: Claim },
    Accepted { claim: Claim },
    Entering,
    // Whoever is connected to by a device that syncs.
    SyncWait,
    SyncAsked { claim: Claim },
    Acked { claim: Claim },
    SyncInstalling,
    // A device that syncs and has connected.
    Sync { priority: u64 },
    SyncSent,
    SyncAnswered { claim: Claim },
    SyncEntering,
    Completed,
    // It is over.
    Over,
}

impl Json {
    /// A listener, to whom a pairing device has connected.
    #[must_use]
    pub fn listen(name: Name, user: UserName) -> Self {
        Self { me: Me::listener(name, user), state: State::Listen }
    }

    /// A pairing device, which has connected to a listener.
    #[must_use]
    pub fn pair(me: Myself) -> Self {
        Self { me: me.into(), state: State::Pair }
    }

    /// A device that syncs, to which another one has connected.
    #[must_use]
    pub fn sync_respond(me: Myself) -> Self {
        Self { me: me.into(), state: State::SyncWait }
    }

    /// A device that syncs and has connected to another one. `priority` is a random number.
    #[must_use]
    pub fn sync_initiate(me: Myself, priority: u64) -> Self {
        Self { me: me.into(), state: State::Sync { priority } }
    }

    /// The number in the other side's `SyncHello`, and the key in it: for [`super::tie`].
    #[must_use]
    pub fn priority_of(line: &str) -> Option<(u64, String)> {
        match Message::decode(line) {
            Ok(Message::SyncHello { initiator_priority, public_key, .. }) => {
                Some((initiator_priority, key(&public_key).ok()?.to_string()))
            }
            _ => None,
        }
    }

    /// What somebody calls itself who answers a greeting so: empty if it would be greeted as one that syncs.
    #[must_use]
    pub fn greeting(line: &str) -> Option<String> {
        match Message::decode(line) {
            Ok(Message::HelloAck { device_name, .. }) => {
                name(&device_name).ok().map(|name| name.as_str().to_owned())
            }
            Ok(Message::Error { code: CODE_EXPECTED_HELLO, .. }) => Some(String::new()),
            _ => None,
        }
    }

    fn over(&mut self, end: End) -> Step {
        self.state = State::Over;
        Step::Over(end)
    }

    /// Says what is wrong and ends.
    fn refuse(&mut self, code: u32, message: &str, end: End) -> Vec<Step> {
        let error = Message::Error { code, message: message.to_owned() };
        vec![send(&error), self.over(end)]
    }

    fn broken(&mut self, broken: Broken) -> Vec<Step> {
        let code = match (&broken, &self.state) {
            (Broken::Version(_), _) => CODE_VERSION,
            (_, State::Greeted { .. }) => CODE_EXPECTED_KEY,
            _ => CODE_EXPECTED_HELLO,
        };
        self.refuse(code, &broken.to_string(), End::Broken(broken))
    }

    fn hello(&mut self, version: u32, device_name: &str) -> Result<Vec<Step>, Broken> {
        check(version)?;
        let name = name(device_name)?;
        self.state = State::Greeted { name };
        Ok(vec![send(&Message::HelloAck {
            version: VERSION,
            device_name: self.me.name.as_str().to_owned(),
            verification_code: None,
        })])
    }

    fn sync_hello(&self, priority: u64) -> Message {
        Message::SyncHello {
            version: VERSION,
            device_name: self.me.name.as_str().to_owned(),
            initiator_priority: priority,
            public_key: self.me.key_line.clone(),
            key_comment: self.me.comment.clone(),
            ssh_user: self.me.user.to_string(),
        }
    }

    fn ack(&self, accept_sync: bool) -> Message {
        Message::SyncHelloAck {
            version: VERSION,
            device_name: self.me.name.as_str().to_owned(),
            public_key: self.me.key_line.clone(),
            key_comment: self.me.comment.clone(),
            ssh_user: self.me.user.to_string(),
            accept_sync,
        }
    }

    fn take(&mut self, message: Message) -> Result<Vec<Step>, Broken> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, message) {
            // Who has said no more than that was not refused anything: anybody could end a listener by it.
            (State::Listen | State::Greeted { .. } | State::SyncWait, Message::Error { .. }) => {
                Ok(vec![self.over(End::Probe)])
            }
            (_, Message::Error { message, .. }) => {
                Ok(vec![self.over(End::Refused(words(&message)))])
            }

            (State::Listen, Message::Hello { version, device_name }) => {
                self.hello(version, &device_name)
            }
            (State::Greeted { name }, Message::KeyExchange { public_key, .. }) => {
                self.state = State::Greeted { name: name.clone() };
                let claim = Claim { name: Some(name), user: None, key: Some(key(&public_key)?) };
                self.state = State::Asked { claim: claim.clone() };
                Ok(vec![Step::Ask(claim)])
            }

            (State::HelloSent, Message::HelloAck { version, device_name, .. }) => {
                check(version)?;
                let claim = Claim { name: Some(name(&device_name)?), user: None, key: None };
                self.state = State::Offering { claim: claim.clone() };
                Ok(vec![Step::Ask(claim)])
            }
            (State::KeySent { claim }, Message::KeyAccepted { .. }) => {
                self.state = State::Accepted { claim };
                Ok(Vec::new())
            }
            (
                State::Accepted { claim } | State::KeySent { claim },
                Message::PairingComplete { ssh_user },
            ) => {
                self.state = State::Entering;
                Ok(vec![Step::Install(Claim { user: Some(user(&ssh_user)?), ..claim })])
            }

            (
                State::SyncWait,
                Message::SyncHello { version, device_name, public_key, ssh_user, .. },
            ) => {
                check(version)?;
                let claim = claim(&device_name, &public_key, &ssh_user)?;
                self.state = State::SyncAsked { claim: claim.clone() };
                Ok(vec![Step::Ask(claim)])
            }
            (State::Acked { claim }, Message::SyncComplete { success, message }) => {
                if !success {
                    return Ok(vec![self.over(End::Refused(words(&message)))]);
                }
                self.state = State::SyncInstalling;
                Ok(vec![Step::Install(claim)])
            }

            (
                State::SyncSent,
                Message::SyncHelloAck {
                    version,
                    device_name,
                    public_key,
                    ssh_user,
                    accept_sync,
                    ..
                },
            ) => {
                check(version)?;
                if !accept_sync {
                    return Ok(vec![self.over(End::Refused(String::new()))]);
                }
                let claim = claim(&device_name, &public_key, &ssh_user)?;
                self.state = State::SyncAnswered { claim: claim.clone() };
                Ok(vec![Step::Ask(claim)])
            }
            (State::Completed, Message::SyncComplete { success, message }) => {
                let end = if success { End::Done } else { End::Refused(words(&message)) };
                Ok(vec![self.over(end)])
            }

            // Whoever scans for listeners asks those that sync, too.
            (State::SyncWait, Message::Hello { .. }) => Ok(self.refuse(
                CODE_EXPECTED_HELLO,
                "this device syncs: expected SyncHello",
                End::Probe,
            )),
            (state, _) => {
                self.state = state;
                Err(Broken::OutOfOrder)
            }
        }
    }
}

impl Talk for Json {
    fn begin(&mut self) -> Vec<Step> {
        match self.state {
            State::Pair => {
                self.state = State::HelloSent;
                vec![send(&Message::Hello {
                    version: VERSION,
                    device_name: self.me.name.as_str().to_owned(),
                })]
            }
            State::Sync { priority } => {
                self.state = State::SyncSent;
                vec![send(&self.sync_hello(priority))]
            }
            _ => Vec::new(),
        }
    }

    fn line(&mut self, line: &str) -> Vec<Step> {
        if line.trim().is_empty() {
            // Scanners send one.
            return Vec::new();
        }
        match Message::decode(line).and_then(|message| self.take(message)) {
            Ok(steps) => steps,
            Err(broken) => self.broken(broken),
        }
    }

    fn answer(&mut self, yes: bool) -> Vec<Step> {
        const NO: &str = "its person said no";
        match (std::mem::replace(&mut self.state, State::Over), yes) {
            (State::Asked { claim }, true) => {
                self.state = State::Installing;
                vec![Step::Install(claim)]
            }
            (State::Asked { .. }, false) => self.refuse(CODE_EXPECTED_KEY, NO, End::Declined),
            (State::Offering { claim }, true) => {
                self.state = State::KeySent { claim };
                vec![send(&Message::KeyExchange {
                    public_key: self.me.key_line.clone(),
                    comment: self.me.comment.clone(),
                })]
            }
            // To the other side this was a look.
            (State::Offering { .. }, false) => vec![self.over(End::Declined)],
            (State::SyncAsked { claim }, true) => {
                self.state = State::Acked { claim };
                vec![send(&self.ack(true))]
            }
            (State::SyncAsked { .. }, false) => {
                vec![send(&self.ack(false)), self.over(End::Declined)]
            }
            (State::SyncAnswered { claim }, true) => {
                self.state = State::SyncEntering;
                vec![Step::Install(claim)]
            }
            (State::SyncAnswered { .. }, false) => {
                vec![complete(false, NO), self.over(End::Declined)]
            }
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    fn installed(&mut self, result: Result<(), String>) -> Vec<Step> {
        const DONE: &str = "Key exchange successful";
        match (std::mem::replace(&mut self.state, State::Over), result) {
            (State::Installing, Ok(())) => vec![
                send(&Message::KeyAccepted { message: "Key added to authorized_keys".to_owned() }),
                send(&Message::PairingComplete { ssh_user: self.me.user.to_string() }),
                self.over(End::Done),
            ],
            (State::Installing, Err(_)) => self.refuse(CODE_EXPECTED_KEY, COULD_NOT, End::Declined),
            (State::SyncInstalling, Ok(())) => vec![complete(true, DONE), self.over(End::Done)],
            (State::SyncEntering, Ok(())) => {
                self.state = State::Completed;
                vec![complete(true, DONE)]
            }
            (State::SyncInstalling | State::SyncEntering, Err(_)) => {
                vec![complete(false, COULD_NOT), self.over(End::Declined)]
            }
            (State::Entering, Ok(())) => vec![self.over(End::Done)],
            (State::Entering, Err(_)) => vec![self.over(End::Declined)],
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    fn ended(&mut self, why: Option<Broken>) -> End {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (why, state) {
            (Some(broken), _) => End::Broken(broken),
            // Its scanner greets and leaves; whoever only connects looks, too.
            (None, State::Listen | State::Greeted { .. } | State::SyncWait) => End::Probe,
            // It closes right after its last word, which may be lost with it.
            (None, State::Completed) => End::Done,
            (None, _) => End::Broken(Broken::Ended),
        }
    }

    fn patient(&self) -> bool {
        matches!(
            self.state,
            State::HelloSent
                | State::KeySent { .. }
                | State::SyncSent
                | State::Acked { .. }
                | State::Completed
        )
    }
}

const COULD_NOT: &str = "the key could not be installed";

fn check(version: u32) -> Result<(), Broken> {
    if version == VERSION { Ok(()) } else { Err(Broken::Version(version)) }
}

fn claim(device_name: &str, public_key: &str, ssh_user: &str) -> Result<Claim, Broken> {
    Ok(Claim {
        name: Some(name(device_name)?),
        user: Some(user(ssh_user)?),
        key: Some(key(public_key)?),
    })
}

fn send(message: &Message) -> Step {
    Step::Send(message.encode())
}

fn complete(success: bool, message: &str) -> Step {
    send(&Message::SyncComplete { success, message: message.to_owned() })
}

//! The protocol of Connecto's documentation: a command and its arguments, a line each.

use wire::session::Name;

use super::{Broken, Claim, End, Me, Myself, Step, Talk, VERSION, key, name, user, words};
use crate::{PublicKey, UserName};

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A greeting, with the version.
    Hello(u32),
    /// The client's key.
    PublicKey(PublicKey),
    /// It is installed: the listener's name, and whom to log in as.
    Ok(Name, UserName),
    /// No, and why.
    Err(String),
    /// The end.
    Bye,
}

impl Command {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is no command, or what stands behind it is refused.
    pub fn decode(line: &str) -> Result<Self, Broken> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "HELLO" => {
                let version = rest.trim();
                let digits = (1..=9).contains(&version.len())
                    && version.bytes().all(|byte| byte.is_ascii_digit());
                match version.parse() {
                    Ok(version) if digits => Ok(Self::Hello(version)),
                    _ => Err(Broken::Malformed),
                }
            }
            "PUBKEY" => Ok(Self::PublicKey(key(rest)?)),
            "OK" => {
                let mut parts = rest.split(' ').filter(|part| !part.is_empty());
                let (Some(host), Some(login), None) = (parts.next(), parts.next(), parts.next())
                else {
                    return Err(Broken::Malformed);
                };
                Ok(Self::Ok(name(host)?, user(login)?))
            }
            "ERR" => Ok(Self::Err(words(rest))),
            "BYE" if rest.trim().is_empty() => Ok(Self::Bye),
            _ => Err(Broken::Malformed),
        }
    }
}

/// One side of a conversation in text.
#[derive(Debug)]
pub struct Text {
    me: Me,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    // A listener.
    Listen,
    Greeted,
    Asked { claim: Claim },
    Installing,
    AwaitBye,
    // A pairing device.
    Pair,
    HelloSent,
    Offering,
    KeySent,
    Entering,
    Over,
}

impl Text {
    /// A listener.
    #[must_use]
    pub fn listen(name: Name, user: UserName) -> Self {
        Self { me: Me::listener(name, user), state: State::Listen }
    }

    /// A pairing device.
    #[must_use]
    pub fn pair(me: Myself) -> Self {
        Self { me: me.into(), state: State::Pair }
    }

    fn over(&mut self, end: End) -> Step {
        self.state = State::Over;
        Step::Over(end)
    }

    fn refuse(&mut self, words: &str, end: End) -> Vec<Step> {
        vec![Step::Send(format!("ERR {words}")), self.over(end)]
    }

    fn take(&mut self, command: Command) -> Result<Vec<Step>, Broken> {
        match (std::mem::replace(&mut self.state, State::Over), command) {
            (State::Listen, Command::Hello(version)) => {
                if version != VERSION {
                    return Err(Broken::Version(version));
                }
                self.state = State::Greeted;
                Ok(vec![Step::Send(format!("HELLO {VERSION}"))])
            }
            (State::Greeted, Command::PublicKey(key)) => {
                let claim = Claim { name: None, user: None, key: Some(key) };
                self.state = State::Asked { claim: claim.clone() };
                Ok(vec![Step::Ask(claim)])
            }
            (State::Listen | State::Greeted, Command::Bye) => Ok(vec![self.over(End::Probe)]),
            (State::AwaitBye, Command::Bye) => Ok(vec![self.over(End::Done)]),

            (State::HelloSent, Command::Hello(version)) => {
                if version != VERSION {
                    return Err(Broken::Version(version));
                }
                self.state = State::Offering;
                Ok(vec![Step::Ask(Claim { name: None, user: None, key: None })])
            }
            (State::KeySent, Command::Ok(name, user)) => {
                self.state = State::Entering;
                let claim = Claim { name: Some(name), user: Some(user), key: None };
                Ok(vec![Step::Install(claim)])
            }
            (State::HelloSent | State::KeySent, Command::Err(message)) => {
                Ok(vec![self.over(End::Refused(message))])
            }
            (state, _) => {
                self.state = state;
                Err(Broken::OutOfOrder)
            }
        }
    }

    /// A listener says what is wrong; a client has only `BYE` to say.
    fn serves(&self) -> bool {
        matches!(
            self.state,
            State::Listen | State::Greeted | State::Asked { .. } | State::Installing
        )
    }
}

impl Talk for Text {
    fn begin(&mut self) -> Vec<Step> {
        if self.state != State::Pair {
            return Vec::new();
        }
        self.state = State::HelloSent;
        vec![Step::Send(format!("HELLO {VERSION}"))]
    }

    fn line(&mut self, line: &str) -> Vec<Step> {
        if line.trim().is_empty() {
            return Vec::new();
        }
        let serves = self.serves();
        match Command::decode(line).and_then(|command| self.take(command)) {
            Ok(steps) => steps,
            Err(broken) if serves => self.refuse(&broken.to_string(), End::Broken(broken)),
            Err(broken) => vec![Step::Send("BYE".to_owned()), self.over(End::Broken(broken))],
        }
    }

    fn answer(&mut self, yes: bool) -> Vec<Step> {
        match (std::mem::replace(&mut self.state, State::Over), yes) {
            (State::Asked { claim }, true) => {
                self.state = State::Installing;
                vec![Step::Install(claim)]
            }
            (State::Asked { .. }, false) => self.refuse("the person here said no", End::Declined),
            (State::Offering, true) => {
                self.state = State::KeySent;
                vec![Step::Send(format!("PUBKEY {}", self.me.key_line))]
            }
            (State::Offering, false) => {
                vec![Step::Send("BYE".to_owned()), self.over(End::Declined)]
            }
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    fn installed(&mut self, result: Result<(), String>) -> Vec<Step> {
        match (std::mem::replace(&mut self.state, State::Over), result) {
            (State::Installing, Ok(())) => {
                self.state = State::AwaitBye;
                let name = one_word(self.me.name.as_str());
                vec![Step::Send(format!("OK {name} {}", self.me.user))]
            }
            (State::Installing, Err(_)) => {
                self.refuse("the key could not be installed", End::Declined)
            }
            (State::Entering, Ok(())) => {
                vec![Step::Send("BYE".to_owned()), self.over(End::Done)]
            }
            (State::Entering, Err(_)) => {
                vec![Step::Send("BYE".to_owned()), self.over(End::Declined)]
            }
            (state, _) => {
                self.state = state;
                Vec::new()
            }
        }
    }

    fn ended(&mut self, why: Option<Broken>) -> End {
        match (std::mem::replace(&mut self.state, State::Over), why) {
            // The key is installed and that was said.
            (State::AwaitBye, _) => End::Done,
            (_, Some(broken)) => End::Broken(broken),
            (State::Listen | State::Greeted, None) => End::Probe,
            (_, None) => End::Broken(Broken::Ended),
        }
    }

    fn patient(&self) -> bool {
        matches!(self.state, State::HelloSent | State::KeySent)
    }
}

/// A name without the blanks that would make two arguments of it.
fn one_word(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join("-")
}

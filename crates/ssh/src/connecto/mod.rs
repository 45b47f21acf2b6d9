//! Connecto's two protocols, as pure state machines: lines in, steps out; no I/O and no clock.
//!
//! - [`Json`]: what its program speaks, one JSON object a line; pairing and sync, both roles.
//! - [`Text`]: what its documentation describes (`HELLO`, `PUBKEY`, `OK`, `ERR`, `BYE`), both roles.
//!
//! The first byte tells them apart, and both from a Kinfold link ([`Spoken::by`]). Neither protocol
//! authenticates anybody: whatever comes out of here is a claim, and nothing is installed on its word
//! alone. What does come out is within bounds, and keys, users and names are such as can stand in SSH's
//! files.

mod json;
mod lines;
mod text;
mod tie;

use wire::session::Name;

use crate::{PublicKey, UserName};

pub use json::{Json, Message};
pub use lines::{Lines, MAX_LINE};
pub use text::{Command, Text};
pub use tie::{Tie, tie};

/// The port of both protocols, and of Kinfold's own ceremony.
pub const PORT: u16 = 8099;
/// The only version of either.
pub const VERSION: u32 = 1;
/// Most bytes of another's words that are kept.
const MAX_WORDS: usize = 256;

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// A TLS handshake: a Kinfold link.
    Kinfold,
    /// Connecto's JSON.
    Json,
    /// Connecto's text.
    Text,
}

impl Spoken {
    /// What begins with this byte; `None` for anything else.
    #[must_use]
    pub fn by(first: u8) -> Option<Self> {
        match first {
            0x16 => Some(Self::Kinfold),
            b'{' => Some(Self::Json),
            b'H' => Some(Self::Text),
            _ => None,
        }
    }
}

/// What this side tells of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Myself {
    /// What it calls itself.
    pub name: Name,
    /// Whom to log in as here.
    pub user: UserName,
    /// The key of this side's user.
    pub key: PublicKey,
    /// The key's comment.
    pub comment: String,
}

/// What a role needs of it: a listener has no key to offer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Me {
    name: Name,
    user: UserName,
    key_line: String,
    comment: String,
}

impl Me {
    fn listener(name: Name, user: UserName) -> Self {
        Self { name, user, key_line: String::new(), comment: String::new() }
    }
}

impl From<Myself> for Me {
    fn from(Myself { name, user, key, comment }: Myself) -> Self {
        let key_line =
            if comment.is_empty() { key.to_string() } else { format!("{key} {comment}") };
        Self { name, user, key_line, comment }
    }
}

/// What the other side claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What it calls itself; `None` if it did not say.
    pub name: Option<Name>,
    /// Whom to log in as there; `None` if it did not say (yet).
    pub user: Option<UserName>,
    /// The key that it wants to log in with; `None` if it wants none.
    pub key: Option<PublicKey>,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send this line, to which nothing is to be added.
    Send(String),
    /// Ask this side's person, then call `answer`.
    Ask(Claim),
    /// Both sides have agreed: install this, then call `installed`.
    Install(Claim),
    /// It is over; close.
    Over(End),
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Somebody looked who is here and left.
    Probe,
    /// Done on both sides.
    Done,
    /// The other side said no, or could not; its words are not escaped.
    Refused(String),
    /// This side's person said no.
    Declined,
    /// The other side broke the protocol, and why that is so.
    Broken(Broken),
}

/// What is wrong with what the other side sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// A line that does not end.
    #[error("a line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// Bytes that are no text.
    #[error("what it sent is no text")]
    NotText,
    /// A line that is no message.
    #[error("what it sent is no message of this protocol")]
    Malformed,
    /// A message that has no place here.
    #[error("its messages are out of order")]
    OutOfOrder,
    /// Another version.
    #[error("it speaks version {0}, and this device version {VERSION}")]
    Version(u32),
    /// The key is none, or not such a key as may be installed.
    #[error("its key is refused: {0}")]
    Key(String),
    /// A name with control characters, empty or too long.
    #[error("its name is refused: {0}")]
    Name(String),
    /// What is no user's name.
    #[error("the user it names is refused")]
    User,
    /// Nothing came for too long.
    #[error("it did not answer in time")]
    Silent,
    /// The connection ended in the middle.
    #[error("it ended the connection before the end")]
    Ended,
}

/// One side of one conversation.
pub trait Talk: Send {
    /// What to send before anything was heard; nothing, if the other side speaks first.
    fn begin(&mut self) -> Vec<Step>;

    /// A line came, without its end.
    fn line(&mut self, line: &str) -> Vec<Step>;

    /// This side's person answered what was asked by [`Step::Ask`].
    fn answer(&mut self, yes: bool) -> Vec<Step>;

    /// What [`Step::Install`] asked for is installed, or why not.
    fn installed(&mut self, result: Result<(), String>) -> Vec<Step>;

    /// The connection has ended, or what came is no line at all.
    fn ended(&mut self, why: Option<Broken>) -> End;

    /// True while the other side may be asking its person: then it is waited for longer.
    fn patient(&self) -> bool;
}

/// A name from outside, or why it is refused.
fn name(text: &str) -> Result<Name, Broken> {
    Name::new(text).map_err(|error| Broken::Name(error.to_string()))
}

/// A key from outside, or why it is refused.
fn key(text: &str) -> Result<PublicKey, Broken> {
    PublicKey::parse(text).map_err(|error| Broken::Key(error.to_string()))
}

/// A user's name from outside, or why it is refused.
fn user(text: &str) -> Result<UserName, Broken> {
    UserName::new(text).map_err(|_| Broken::User)
}

/// As much of another's words as is kept.
fn words(text: &str) -> String {
    let mut end = text.len().min(MAX_WORDS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod holes;
#[cfg(test)]
mod replay;

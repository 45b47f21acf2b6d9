//! What can be asked of a device, and what it answers: the words of the local API (docs/api.md), used by
//! every command whether the device runs in the background or within the command itself.

mod at;
mod client;
mod event;
mod reply;
mod request;
mod server;

pub use at::socket_path;
pub use client::Client;
pub use event::ApiEvent;
pub use reply::{CodeAsk, CodeLine, CodeRefusal, IssuedCode, RelayLine};
pub use reply::{ConflictLine, LocalLine, UndoReply, VersionLine, WhyReply};
pub use reply::{
    DeviceLine, FolderLine, FolderState, GroupLine, InvitationLine, JoinLine, Plan, SshReply,
    StatusReply, Trouble,
};
pub use request::{FolderMode, JoinCode, PairLan, PairToken, Request, ShareCode, SshAllow, Which};
pub use server::{MAX_BODY, MAX_CONNECTIONS, Server};

use std::{future::Future, pin::Pin};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// What is still to come of a request.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Who answers requests: a device of this process, or one behind a socket.
pub trait Service: Send + Sync {
    /// Carries out a request that has one answer. What the answer holds, docs/api.md says for each request.
    fn request(&self, request: Request) -> Answer<'_, serde_json::Value>;

    /// Begins a request that tells of what happens ([`Request::is_stream`]). It ends when the receiver is
    /// dropped, or says so itself by closing the channel.
    fn stream(&self, request: Request) -> Answer<'_, mpsc::Receiver<ApiEvent>>;
}

/// Why a request was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// A stable word for programs.
    pub kind: String,
    /// What happened, to which file or device (unescaped).
    pub message: String,
    /// What to do next; may be empty.
    #[serde(default)]
    pub hint: String,
    /// How a command that asked for it exits: 1 failed, 2 usage, 3 refused by the other side, 4 timed out.
    pub exit: u8,
}

impl Failure {
    /// It was tried and did not work.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers have texts and errors alike")]
    pub fn failed(kind: &str, message: impl ToString) -> Self {
        Self { kind: kind.to_owned(), message: message.to_string(), hint: String::new(), exit: 1 }
    }

    /// It cannot be done as it was asked.
    #[must_use]
    pub fn usage(kind: &str, message: impl ToString) -> Self {
        Self { exit: 2, ..Self::failed(kind, message) }
    }

    /// The other side said no.
    #[must_use]
    pub fn refused(message: impl ToString) -> Self {
        Self { exit: 3, ..Self::failed("refused", message) }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.hint);
        self
    }
}

#[cfg(test)]
mod tests;

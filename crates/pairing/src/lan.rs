//! The LAN ceremony (rule T3): commitment, nonce, reveal; then both sides show the same short string.
//!
//! The TLS client (A) commits to its nonce and to everything else that enters the string before it
//! learns the server's (B) nonce, and B learns A's nonce only after its own is out. So a man in the
//! middle, who must show each side different keys, has one guess at two strings of 29 bits each run
//! being equal.

use identity::Sas;
use wire::{Hash, session::Message};

use crate::{Abort, Transcript};

/// What to do after a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LanStep {
    /// Send this.
    Send(Message),
    /// Send this and show the string.
    SendAndShow(Message, Sas),
    /// Show the string.
    Show(Sas),
    /// The other side is busy; commit again when it says that it is ready.
    Wait,
}

/// One side of the ceremony on one link.
pub struct Lan {
    transcript: Hash,
    state: State,
}

impl std::fmt::Debug for Lan {
    /// Without the nonces: one that is known before its time undoes the commitment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lan").field("exposed", &self.exposed()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum State {
    /// A has not committed.
    ClientIdle,
    /// A has committed to this nonce.
    Committed { nonce: [u8; 32] },
    /// B has not been committed to.
    ServerIdle,
    /// B holds A's commitment and has sent this nonce.
    NonceSent { commitment: [u8; 32], nonce: [u8; 32] },
    /// The string is known here.
    Shown,
    /// Something went wrong. `exposed`: after B's nonce was out.
    Aborted { exposed: bool },
}

impl Lan {
    /// Role A: the TLS client.
    ///
    /// # Errors
    /// If the transcript shows a device to itself.
    pub fn client(transcript: &Transcript) -> Result<Self, Abort> {
        transcript.check()?;
        Ok(Self { transcript: transcript.digest(), state: State::ClientIdle })
    }

    /// Role B: the TLS server.
    ///
    /// # Errors
    /// If the transcript shows a device to itself.
    pub fn server(transcript: &Transcript) -> Result<Self, Abort> {
        transcript.check()?;
        Ok(Self { transcript: transcript.digest(), state: State::ServerIdle })
    }

    /// True from the moment on when B's nonce was out, as far as this side knows: a run that ends
    /// then without two yeses is a failed attempt, whatever the reason.
    #[must_use]
    pub fn exposed(&self) -> bool {
        match self.state {
            State::ClientIdle | State::Committed { .. } | State::ServerIdle => false,
            State::NonceSent { .. } | State::Shown => true,
            State::Aborted { exposed } => exposed,
        }
    }

    /// True if A may commit now.
    #[must_use]
    pub fn may_commit(&self) -> bool {
        matches!(self.state, State::ClientIdle)
    }

    /// A commits, with 32 fresh random bytes.
    ///
    /// # Errors
    /// If this side is B, or has committed already.
    pub fn commit(&mut self, nonce: [u8; 32]) -> Result<Message, Abort> {
        if !self.may_commit() {
            return Err(self.abort(Abort::OutOfOrder));
        }
        self.state = State::Committed { nonce };
        Ok(Message::Commit(self.commitment(&nonce)))
    }

    /// Takes a message of the ceremony. `fresh` are 32 random bytes used nowhere else: B's nonce if
    /// the message is the commitment.
    ///
    /// # Errors
    /// Whatever is not exactly the expected next message ends the ceremony for good.
    pub fn handle(&mut self, message: &Message, fresh: [u8; 32]) -> Result<LanStep, Abort> {
        match (self.state, message) {
            (State::Committed { .. }, Message::Later) => {
                // B has shown nothing of its own, so this nonce is merely forgotten.
                self.state = State::ClientIdle;
                Ok(LanStep::Wait)
            }
            (State::ServerIdle, Message::Commit(commitment)) => {
                self.state = State::NonceSent { commitment: *commitment, nonce: fresh };
                Ok(LanStep::Send(Message::Nonce(fresh)))
            }
            (State::Committed { nonce }, Message::Nonce(theirs)) => {
                self.state = State::Shown;
                if nonce == *theirs {
                    return Err(self.abort(Abort::Reflected));
                }
                let sas = self.sas(&nonce, theirs);
                Ok(LanStep::SendAndShow(Message::Reveal(nonce), sas))
            }
            (State::NonceSent { commitment, nonce }, Message::Reveal(theirs)) => {
                if nonce == *theirs {
                    return Err(self.abort(Abort::Reflected));
                }
                if self.commitment(theirs) != commitment {
                    return Err(self.abort(Abort::Commitment));
                }
                self.state = State::Shown;
                Ok(LanStep::Show(self.sas(theirs, &nonce)))
            }
            _ => Err(self.abort(Abort::OutOfOrder)),
        }
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.state = State::Aborted { exposed: self.exposed() };
        abort
    }

    fn commitment(&self, nonce: &[u8; 32]) -> [u8; 32] {
        Hash::derived("kinfold 2026 lan commitment v1", &[nonce, &self.transcript.0]).0
    }

    fn sas(&self, client: &[u8; 32], server: &[u8; 32]) -> Sas {
        let parts: [&[u8]; 3] = [client, server, &self.transcript.0];
        Sas::from_kdf(&Hash::derived("kinfold 2026 lan sas v1", &parts).0)
    }
}

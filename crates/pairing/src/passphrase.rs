//! The passphrase ceremony (rule T5): SPAKE2 inside the link, and key confirmation bound to it.
//!
//! The TLS client is always side A, the server side B, and both are named role and device id, so that
//! no message can be turned back at its author. An onlooker or a man in the middle gets one guess a
//! run and nothing to guess at afterwards.

use identity::{DeviceId, Secret};
use rand_core::{CryptoRng, RngCore};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use wire::{
    Hash,
    session::{Message, PAKE_LEN},
};

use crate::Abort;

/// What to do after a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PassphraseStep {
    /// Send this.
    Send(Message),
    /// Send this; both sides know the passphrase.
    SendAndAccept(Message),
    /// Both sides know the passphrase.
    Accept,
}

/// One side of the ceremony on one link.
pub struct Passphrase {
    client: bool,
    pake: Option<Spake2<Ed25519Group>>,
    /// Both first messages are bound into the confirmation, this side's first.
    sent: [u8; PAKE_LEN],
    /// Client's and server's device id, and the exporter.
    context: Hash,
    /// What the other side must confirm with, once the key is agreed on.
    expected: Option<Secret<[u8; 32]>>,
    /// What the server confirms with after the client did.
    answer: Option<Secret<[u8; 32]>>,
    done: bool,
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passphrase").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Passphrase {
    /// Starts as the TLS client; `seed` are 32 fresh random bytes. Send the message.
    ///
    /// # Errors
    /// If a device would pair with itself.
    pub fn client(
        passphrase: &Secret<String>,
        me: DeviceId,
        server: DeviceId,
        exporter: &[u8; 32],
        seed: &Secret<[u8; 32]>,
    ) -> Result<(Self, Message), Abort> {
        let (machine, sent) = Self::start(true, passphrase, [me, server], exporter, seed)?;
        Ok((machine, Message::PakeA(sent)))
    }

    /// Starts as the TLS server; `seed` are 32 fresh random bytes. Nothing is to be sent yet.
    ///
    /// # Errors
    /// If a device would pair with itself.
    pub fn server(
        passphrase: &Secret<String>,
        client: DeviceId,
        me: DeviceId,
        exporter: &[u8; 32],
        seed: &Secret<[u8; 32]>,
    ) -> Result<Self, Abort> {
        Ok(Self::start(false, passphrase, [client, me], exporter, seed)?.0)
    }

    fn start(
        client: bool,
        passphrase: &Secret<String>,
        ids: [DeviceId; 2],
        exporter: &[u8; 32],
        seed: &Secret<[u8; 32]>,
    ) -> Result<(Self, [u8; PAKE_LEN]), Abort> {
        if ids[0] == ids[1] {
            return Err(Abort::Reflected);
        }
        let password = Password::new(passphrase.expose().as_bytes());
        let named = |role: &[u8], id: DeviceId| Identity::new(&[role, &id.0].concat());
        let (a, b) = (named(b"kin client ", ids[0]), named(b"kin server ", ids[1]));
        let rng = SeededRng::new(seed);
        let (pake, message) = if client {
            Spake2::<Ed25519Group>::start_a_with_rng(&password, &a, &b, rng)
        } else {
            Spake2::<Ed25519Group>::start_b_with_rng(&password, &a, &b, rng)
        };
        let sent = message.try_into().map_err(|_| Abort::Malformed)?;
        let parts: [&[u8]; 3] = [&ids[0].0, &ids[1].0, exporter];
        let context = Hash::derived("kinfold 2026 passphrase context v1", &parts);
        let (expected, answer) = (None, None);
        let pake = Some(pake);
        Ok((Self { client, pake, sent, context, expected, answer, done: false }, sent))
    }

    /// True once the other side could have tested a guess, and until both have confirmed: a run that
    /// ends then is a failed attempt.
    #[must_use]
    pub fn exposed(&self) -> bool {
        self.pake.is_none() && !self.done
    }

    /// True from the moment on when the other side, by its next message, could test a guess, and until
    /// both have confirmed: the client answers the server's first message with its confirmation.
    #[must_use]
    pub fn under_way(&self) -> bool {
        (self.client || self.pake.is_none()) && !self.done
    }

    /// Takes a message of the ceremony.
    ///
    /// # Errors
    /// [`Abort::WrongPassphrase`] if the confirmation does not fit; whatever is not exactly the
    /// expected next message ends the ceremony too.
    pub fn handle(&mut self, message: &Message) -> Result<PassphraseStep, Abort> {
        match message {
            Message::PakeB(theirs) if self.client => {
                let [client, server] = self.agree(theirs, true)?;
                self.expected = Some(server);
                Ok(PassphraseStep::Send(Message::Confirm(*client.expose())))
            }
            Message::PakeA(theirs) if !self.client => {
                let [client, server] = self.agree(theirs, false)?;
                self.expected = Some(client);
                self.answer = Some(server);
                Ok(PassphraseStep::Send(Message::PakeB(self.sent)))
            }
            Message::Confirm(theirs) => {
                let expected = self.expected.take().ok_or(Abort::OutOfOrder)?;
                // Compared in constant time.
                if blake3::Hash::from_bytes(*expected.expose()) != *theirs {
                    return Err(Abort::WrongPassphrase);
                }
                self.done = true;
                Ok(match self.answer.take() {
                    Some(mine) => PassphraseStep::SendAndAccept(Message::Confirm(*mine.expose())),
                    None => PassphraseStep::Accept,
                })
            }
            _ => Err(Abort::OutOfOrder),
        }
    }

    /// Both confirmations: the client's and the server's.
    fn agree(
        &mut self,
        theirs: &[u8; PAKE_LEN],
        client: bool,
    ) -> Result<[Secret<[u8; 32]>; 2], Abort> {
        let pake = self.pake.take().ok_or(Abort::OutOfOrder)?;
        let key = Secret::new(pake.finish(theirs).map_err(|_| Abort::Malformed)?);
        let (a, b) = if client { (&self.sent, theirs) } else { (theirs, &self.sent) };
        let confirm = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            for part in [&key.expose()[..], &self.context.0, a, b] {
                hasher.update(part);
            }
            Secret::new(*hasher.finalize().as_bytes())
        };
        Ok([
            confirm("kinfold 2026 passphrase confirmation client v1"),
            confirm("kinfold 2026 passphrase confirmation server v1"),
        ])
    }
}

/// The random bytes that spake2 asks for, drawn from a seed, so that the machine stays pure.
struct SeededRng(blake3::OutputReader);

impl SeededRng {
    fn new(seed: &Secret<[u8; 32]>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("kinfold 2026 passphrase scalar v1");
        hasher.update(seed.expose());
        Self(hasher.finalize_xof())
    }
}

impl CryptoRng for SeededRng {}

impl RngCore for SeededRng {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

//! The outbox at work: one letter after the other to each device, until each is left.

use std::{str::FromStr as _, time::Duration};

use bytes::Bytes;
use identity::{DeviceId, Secret};
use relay::{Client, ClientError, RelayAddress};
use tokio::time::sleep;
use wire::{
    mail::MailAddress,
    relay::{DepositToken, MailboxId, Refusal},
};

use crate::device::hub::{Hub, HubHandle, wall};

/// How long a letter is tried, in seconds: as long as a relay would keep it.
const KEPT: i64 = 30 * 24 * 3600;
/// First and longest pause after a letter could not be left.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What came of a letter.
enum Left {
    /// It is in the mailbox, durably.
    Done,
    /// It can never be left.
    Never(String),
    /// Not now.
    Later,
}

impl Hub {
    /// Begins to leave the letters that wait for a device.
    pub(in crate::device) fn deliver(&mut self, device: DeviceId) {
        if self.net.is_some() && self.mail.sending.insert(device) {
            tokio::spawn(run(self.handle.clone(), device));
        }
    }

    /// The same for all that wait.
    pub(super) fn deliver_all(&mut self) {
        match self.store.waiting_for() {
            Ok(devices) => devices.into_iter().for_each(|device| self.deliver(device)),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// The letter that is next, and where it goes.
    fn next_to_leave(&mut self, device: &DeviceId) -> Option<(i64, MailAddress, Bytes)> {
        loop {
            let next = match self.store.next_waiting(device) {
                Ok(next) => next,
                Err(error) => {
                    self.fail(&error.to_string());
                    None
                }
            };
            let place = next.as_ref().and_then(|next| {
                let known = self.mail_place(device);
                known.or_else(|| next.address.clone())
            });
            let (Some(next), Some(place)) = (next, place) else {
                self.mail.sending.remove(device);
                return None;
            };
            if wall().saturating_sub(next.made) < KEPT {
                return Some((next.number, place, next.envelope));
            }
            self.unsent(device, next.number, "it could not be left for 30 days");
        }
    }

    fn left(&mut self, device: &DeviceId, number: i64, left: &Left) {
        match left {
            Left::Done => {
                if let Err(error) = self.store.sent(number) {
                    self.fail(&error.to_string());
                }
            }
            Left::Never(why) => self.unsent(device, number, why),
            Left::Later => {}
        }
    }

    /// A letter leaves the outbox without having been left (rule T21).
    fn unsent(&mut self, device: &DeviceId, number: i64, why: &str) {
        if let Err(error) = self.store.sent(number) {
            return self.fail(&error.to_string());
        }
        let name = self.name_of(device);
        let message = format!("a letter to {name} was given up: {why}");
        self.complain("mail", &message, "it is told all when it comes back on a link");
    }
}

async fn run(hub: HubHandle, device: DeviceId) {
    let mut pause = PAUSE.0;
    loop {
        let Some(Some(next)) = hub.with(move |hub| hub.next_to_leave(&device)).await else {
            return;
        };
        let (number, place, envelope) = next;
        let left = match leave(&place, envelope).await {
            Ok(()) => Left::Done,
            Err(ClientError::Refused(why @ (Refusal::TooLarge | Refusal::Malformed))) => {
                Left::Never(why.to_string())
            }
            // A relay's word alone is no reason to give anything up.
            Err(error) => {
                tracing::debug!(%error, "a letter was not left yet");
                Left::Later
            }
        };
        let later = matches!(left, Left::Later);
        if hub.with(move |hub| hub.left(&device, number, &left)).await.is_none() {
            return;
        }
        if later {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        } else {
            pause = PAUSE.0;
        }
    }
}

/// Leaves an envelope in a mailbox, on a connection of its own. Where the members' token was changed meanwhile,
/// the strangers' lane takes it: its owner tells the new one in its answer.
pub(super) async fn leave(place: &MailAddress, envelope: Bytes) -> Result<(), ClientError> {
    let client = client(&place.relay)?;
    let mailbox = MailboxId(place.mailbox);
    let token = place.token.map(|token| DepositToken(Secret::new(token)));
    match client.deposit(mailbox, token.as_ref(), envelope.clone()).await {
        Err(ClientError::Refused(Refusal::Denied | Refusal::Unavailable)) if token.is_some() => {
            client.deposit(mailbox, None, envelope).await
        }
        done => done,
    }
}

/// A client of the relay of this address, which may come from outside.
pub(super) fn client(address: &str) -> Result<Client, ClientError> {
    let address =
        RelayAddress::from_str(address).map_err(|_| ClientError::Refused(Refusal::Malformed))?;
    Client::new(&address)
}

//! When `--once` is over: the first agreement, a refusal with nobody else left, or time. Pure; the
//! clock is an argument.
//!
//! The time runs from the start until a peer is connected. From then on it starts anew whenever
//! something moves, so that long work is never cut off, and only a standstill is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use identity::DeviceId;
use node::{Event, QuestionId};

use crate::{
    error::{CommandError, Exit},
    output::words,
    prompt::Deletions,
};

/// Names kept of those that were found; more than that are not a LAN but a flood.
const MAX_FOUND: usize = 1024;

/// Watches a run for its end.
#[derive(Debug)]
pub(crate) struct Once {
    timeout: Duration,
    deadline: Instant,
    found: BTreeSet<String>,
    connected: BTreeMap<DeviceId, String>,
    said_no: BTreeSet<String>,
    refused: Option<String>,
    closed: Option<String>,
    /// Deletions that are held.
    braked: Option<Deletions>,
    moved: (u64, u64),
}

/// The run is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// This device and every connected peer agree.
    InSync,
    /// It will not come to that.
    Failed(CommandError),
}

impl Once {
    pub(crate) fn new(now: Instant, timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: now + timeout,
            found: BTreeSet::new(),
            connected: BTreeMap::new(),
            said_no: BTreeSet::new(),
            refused: None,
            closed: None,
            braked: None,
            moved: (0, 0),
        }
    }

    /// When [`Once::expired`] is due if nothing more happens.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The person said no to a device of this name: its refusal is not the other side's.
    pub(crate) fn said_no(&mut self, name: &str) {
        if self.said_no.len() < MAX_FOUND {
            self.said_no.insert(name.to_owned());
        }
    }

    /// Deletions are held: that will not come to an agreement unless somebody agrees.
    pub(crate) fn brake(&mut self, deletions: &Deletions) {
        self.braked = Some(deletions.clone());
    }

    /// Those of this question are not held any more.
    pub(crate) fn brake_is_off(&mut self, id: QuestionId, now: Instant) {
        if self.braked.take_if(|held| held.id == id).is_some() {
            self.something_moved(now);
        }
    }

    /// Takes in what happened. `asking` is true while a question is open.
    pub(crate) fn event(&mut self, event: &Event, asking: bool, now: Instant) -> Option<Over> {
        match event {
            Event::InSync { not_applied, not_applied_elsewhere, .. } => {
                return Some(agreed((*not_applied, *not_applied_elsewhere)));
            }
            Event::PeerFound { name, .. } if self.found.len() < MAX_FOUND => {
                self.found.insert(name.clone());
            }
            Event::PeerConnected { device, name, .. } => {
                self.found.remove(name);
                self.connected.insert(*device, name.clone());
                self.deadline = now + self.timeout;
            }
            Event::PeerDisconnected { device, .. } => {
                self.connected.remove(device);
            }
            Event::Progress { files_done, bytes_done, .. }
                if self.moved != (*files_done, *bytes_done) =>
            {
                self.moved = (*files_done, *bytes_done);
                self.something_moved(now);
            }
            Event::Applied { .. } | Event::Conflict { .. } => self.something_moved(now),
            Event::ConfirmWithdrawn { id, .. } => self.brake_is_off(*id, now),
            Event::AdmissionClosed { reason } => self.closed = Some(reason.clone()),
            Event::Refused { name, reason } => {
                self.found.remove(name);
                if !self.said_no.contains(name) {
                    self.refused = Some(format!("{}: {reason}", or_a_device(name)));
                    if self.connected.is_empty() && self.found.is_empty() && !asking {
                        return Some(Over::Failed(self.expired(asking)));
                    }
                }
            }
            _ => {}
        }
        None
    }

    fn something_moved(&mut self, now: Instant) {
        if !self.connected.is_empty() {
            self.deadline = now + self.timeout;
        }
    }

    /// Why it did not come to an agreement, as far as anybody knows.
    pub(crate) fn expired(&self, asking: bool) -> CommandError {
        let seconds = self.timeout.as_secs();
        if let Some(held) = &self.braked {
            return CommandError::failed("brake", &words::deletions(held)).hint(
                "if they are meant, start again with --accept-deletes; if not, put the files back",
            );
        }
        if !self.connected.is_empty() {
            let names: Vec<&str> = self.connected.values().map(String::as_str).collect();
            let message =
                format!("nothing moved for {seconds} s, and {} is not in sync", names.join(", "));
            return CommandError::new(Exit::TimedOut, "timeout", &message)
                .hint("see above for errors and skipped files, or give it longer with --timeout")
                .hint(
                    "the other device may ask its person something, for example about deletions",
                );
        }
        if asking {
            let message = format!("the question was not answered within {seconds} s");
            return CommandError::new(Exit::TimedOut, "timeout", &message)
                .hint("answer sooner, or give yourself longer with --timeout");
        }
        if let Some(refused) = &self.refused {
            return CommandError::new(Exit::Refused, "refused", &format!("refused by {refused}"))
                .hint("both sides must say yes, with the same --topic and the same way to get in");
        }
        if let Some(closed) = &self.closed {
            return CommandError::new(
                Exit::TimedOut,
                "timeout",
                &format!("nobody could join: {closed}"),
            )
            .hint("start again when you know who was trying");
        }
        let message = match self.found.iter().next() {
            Some(name) => {
                format!("{} was found, but did not join within {seconds} s", or_a_device(name))
            }
            None => format!("no other device came within {seconds} s"),
        };
        CommandError::new(Exit::TimedOut, "timeout", &message)
            .hint("run kin sync on the other device too; where discovery does not reach, use --peer HOST:PORT")
    }
}

/// All agree: but where a device could not put in place what it knows, the folder is not the same there.
fn agreed(lost: words::Lost) -> Over {
    let (message, hint) = match lost {
        (0, 0) => return Over::InSync,
        (0, there) => (
            format!(
                "{} of this folder could not be put in place on another device",
                words::paths(there)
            ),
            "keep them here: there may be no other copy; kin on the other device says why",
        ),
        (here, _) => (
            format!("{} of other devices could not be put in place here", words::paths(here)),
            "mend what is said of each above (skipped), and run it again",
        ),
    };
    Over::Failed(CommandError::failed("not_applied", &message).hint(hint))
}

fn or_a_device(name: &str) -> &str {
    if name.is_empty() { "a device" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn found(name: &str) -> Event {
        Event::PeerFound { name: name.into(), addr: ([10, 0, 0, 1], 9000).into() }
    }

    fn connected(id: u8) -> Event {
        let addr = ([10, 0, 0, id], 9000).into();
        Event::PeerConnected {
            device: DeviceId([id; 32]),
            name: format!("device-{id}"),
            addr,
            key_exchange: "X25519MLKEM768".into(),
        }
    }

    fn disconnected(id: u8) -> Event {
        Event::PeerDisconnected {
            device: DeviceId([id; 32]),
            name: format!("device-{id}"),
            reason: "gone".into(),
        }
    }

    fn in_sync((not_applied, not_applied_elsewhere): words::Lost) -> Event {
        let (files, bytes, peers, skipped) = (1, 1, 1, 0);
        Event::InSync { files, bytes, peers, skipped, not_applied, not_applied_elsewhere }
    }

    /// What a script may then clear away must be on the other side.
    #[test]
    fn e25_what_could_not_be_put_in_place_is_no_success() {
        for (lost, code) in [((0, 0), 0), ((3, 0), 1), ((0, 3), 1), ((1, 1), 1)] {
            let mut once = Once::new(Instant::now(), TIMEOUT);
            assert_eq!(exit(once.event(&in_sync(lost), false, Instant::now())), code, "{lost:?}");
        }
    }

    fn refused(name: &str) -> Event {
        Event::Refused { name: name.into(), reason: "no".into() }
    }

    fn progress(files_done: u64) -> Event {
        Event::Progress { files_done, files_total: 9, bytes_done: 0, bytes_total: 9 }
    }

    fn exit(over: Option<Over>) -> u8 {
        match over.expect("is over") {
            Over::InSync => 0,
            Over::Failed(error) => error.exit.code(),
        }
    }

    #[test]
    fn agreement_ends_it() {
        let start = Instant::now();
        let mut once = Once::new(start, TIMEOUT);
        assert_eq!(once.event(&connected(1), false, start), None);
        assert_eq!(exit(once.event(&in_sync((0, 0)), false, start)), 0);
    }

    #[test]
    fn finding_somebody_does_not_prolong_it() {
        let start = Instant::now();
        let mut once = Once::new(start, TIMEOUT);
        once.event(&found("a"), false, start + TIMEOUT / 2);
        once.event(&progress(1), false, start + TIMEOUT / 2);
        assert_eq!(once.deadline(), start + TIMEOUT);
        let error = once.expired(false);
        assert_eq!(
            (error.exit, error.message.as_str()),
            (Exit::TimedOut, "a was found, but did not join within 60 s")
        );
        assert_eq!(once.expired(true).exit, Exit::TimedOut);
    }

    #[test]
    fn work_prolongs_it_and_a_standstill_does_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut once = Once::new(start, TIMEOUT);
        once.event(&connected(1), false, at(50));
        assert_eq!(once.deadline(), at(110));
        once.event(&progress(1), false, at(100));
        assert_eq!(once.deadline(), at(160));
        once.event(&progress(1), false, at(150));
        assert_eq!(once.deadline(), at(160), "the same progress again is none");
        let error = once.expired(false);
        assert_eq!(error.exit, Exit::TimedOut);
        assert!(error.message.contains("device-1 is not in sync"), "{}", error.message);
        once.event(&disconnected(1), false, at(155));
        assert_eq!(once.deadline(), at(160));
        assert!(once.expired(false).message.contains("no other device"));
    }

    #[test]
    fn e19_held_deletions_fail_it_when_the_time_is_over_and_consent_gives_it_more() {
        let start = Instant::now();
        let mut once = Once::new(start, TIMEOUT);
        once.event(&connected(1), false, start);
        let held = |id| Deletions {
            id: QuestionId(id),
            deletes: 90,
            of: 100,
            held: 90,
            from: "desk".into(),
            here: false,
        };
        once.brake(&held(1));
        let error = once.expired(false);
        assert_eq!((error.exit, &*error.kind), (Exit::Failed, "brake"));
        assert!(error.message.contains("90 of 100 files here were deleted on desk"), "{error:?}");
        assert!(error.hints.concat().contains("--accept-deletes"));
        once.brake(&held(2));
        once.brake_is_off(QuestionId(1), start);
        assert_eq!(once.expired(false).kind, "brake", "another question is open");
        once.brake_is_off(QuestionId(2), start + TIMEOUT / 2);
        assert_eq!(once.deadline(), start + TIMEOUT / 2 + TIMEOUT);
        assert_eq!(once.expired(false).kind, "timeout");
    }

    #[test]
    fn a_refusal_ends_it_only_when_nobody_else_is_left() {
        let start = Instant::now();
        let mut once = Once::new(start, TIMEOUT);
        once.event(&found("a"), false, start);
        once.event(&found("b"), false, start);
        assert_eq!(once.event(&refused("a"), false, start), None);
        assert_eq!(once.event(&refused("b"), true, start), None, "a question is open");
        assert_eq!(exit(once.event(&refused("b"), false, start)), 3);

        let mut once = Once::new(start, TIMEOUT);
        once.event(&connected(1), false, start);
        assert_eq!(once.event(&refused("b"), false, start), None);
        once.event(&disconnected(1), false, start);
        assert_eq!(once.expired(false).exit, Exit::Refused);
    }

    #[test]
    fn the_own_no_is_not_a_refusal_by_the_other_side() {
        let start = Instant::now();
        let mut once = Once::new(start, TIMEOUT);
        once.event(&found("a"), false, start);
        once.said_no("a");
        assert_eq!(once.event(&refused("a"), false, start), None);
        assert_eq!(once.expired(false).exit, Exit::TimedOut);
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let start = Instant::now();
        let mut once = Once::new(start, TIMEOUT);
        for n in 0..3000 {
            once.event(&found(&n.to_string()), false, start);
        }
        assert_eq!(once.found.len(), MAX_FOUND);
    }
}

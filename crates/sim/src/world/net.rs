//! The links of a world.

use folder::{PeerId, engine::Input};
use wire::sync::Message;

use super::{Link, Parcel, Sent, TELL_QUEUED, What, World};
use crate::{fault::Fault, mutant::Mutation};

impl World {
    pub(super) fn send(
        &mut self,
        number: usize,
        peer: PeerId,
        message: Message,
    ) -> Result<(), String> {
        let Some((to, to_peer)) = self.other_end(number, peer) else { return Ok(()) };
        let message = Mutation::said(self.mutation, message);
        self.messages += 1;
        if self.faults.has(Fault::Links) && matches!(message, Message::Records { request: 0, .. }) {
            self.pushed.insert((number, to), message.clone());
        }
        if self.verbose {
            self.tell(format_args!("{number} -> {to}: {}", describe(&message)));
        }
        let slow = self.rng.one_in(8);
        let mut delay = 1 + self.rng.below(if slow { 40 } else { 4 });
        if let Some(longer) = self.slow.get(&(number.min(to), number.max(to))) {
            delay += self.rng.below(longer + 1);
        }
        let at = self.arrival.entry((number, to)).or_default();
        *at = (self.now + delay).max(*at);
        let (at, run) = (*at, self.devices[to].run);
        let bytes = message.encode();
        self.trace.add(&bytes);
        let len = bytes.len();
        *self.queued.entry((number, to)).or_default() += len;
        if let Some(sent) = &mut self.sent {
            sent.push(Sent { time: self.now, from: number, to, message: message.clone() });
        }
        let parcel = match self.undecoded {
            false => Parcel::Bytes(bytes),
            true => Parcel::Message(Box::new(message)),
        };
        self.at(at, What::Deliver { from: number, to, run, peer: to_peer, parcel, len });
        Ok(())
    }

    /// Sends a message over the link of two devices, if there is one.
    pub(crate) fn say(&mut self, from: usize, to: usize, message: Message) -> Result<(), String> {
        let Some(link) = self.links.get(&(from.min(to), from.max(to))) else { return Ok(()) };
        let peer = link.ends.iter().find(|(number, _)| *number == from).map(|(_, peer)| *peer);
        peer.map_or(Ok(()), |peer| self.send(from, peer, message))
    }

    /// True if no message is under way on any link.
    pub(crate) fn is_silent(&self) -> bool {
        let ways = self.links.keys().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        ways.into_iter().all(|way| self.queued.get(&way).is_none_or(|bytes| *bytes == 0))
    }

    fn other_end(&self, number: usize, peer: PeerId) -> Option<(usize, PeerId)> {
        self.links.values().find_map(|link| {
            let [one, two] = link.ends;
            match (number, peer) {
                end if end == one => Some(two),
                end if end == two => Some(one),
                _ => None,
            }
        })
    }

    /// Something arrived, so that more may be sent.
    pub(super) fn drained(&mut self, from: usize, to: usize, bytes: usize) -> Result<(), String> {
        let queued = self.queued.entry((from, to)).or_default();
        let before = *queued;
        *queued = queued.saturating_sub(bytes);
        if before < TELL_QUEUED {
            return Ok(());
        }
        let run = self.devices[from].run;
        self.input(from, run, Input::Tick)
    }

    /// What the receiver did not read arrives now.
    pub(crate) fn read_again(&mut self, from: usize, to: usize) {
        self.stalled.remove(&(from, to));
        let (now, later) = std::mem::take(&mut self.held_back).into_iter().partition(
            |what| matches!(what, What::Deliver { from: f, to: t, .. } if (*f, *t) == (from, to)),
        );
        self.held_back = later;
        let now: Vec<_> = now;
        for what in now {
            self.at(self.now, what);
        }
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) -> Result<(), String> {
        let up = |number: usize| self.devices[number].engine.is_some();
        if a == b || self.links.contains_key(&(a, b)) || !up(a) || !up(b) || !self.may_link(a, b) {
            return Ok(());
        }
        // Whoever still believes in the last link sees now that it is gone.
        for (device, run, peer) in self.late.remove(&(a, b)).unwrap_or_default() {
            self.input(device, run, Input::PeerDown { peer })?;
        }
        self.note(format_args!("{a} and {b} are linked"));
        let ends = [a, b].map(|number| {
            self.next_peer += 1;
            (number, PeerId(self.next_peer))
        });
        self.arrival.remove(&(a, b));
        self.arrival.remove(&(b, a));
        self.links.insert((a, b), Link { ends });
        for ((number, peer), other) in ends.into_iter().zip([b, a]) {
            let run = self.devices[number].run;
            let name = format!("device {other}");
            let device = self.devices[number].manifest.lasts().then(|| self.members.id(other));
            self.input(number, run, Input::PeerUp { peer, name, device })?;
        }
        // What was pushed last comes once more, as if nobody knew whether it had arrived.
        for ((number, peer), other) in ends.into_iter().zip([b, a]) {
            if let Some(message) = self.pushed.remove(&(number, other)) {
                self.send(number, peer, message)?;
            }
        }
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> Result<(), String> {
        self.disconnect_unevenly(a, b, 0)
    }

    /// Cuts a link; `second` notices that many milliseconds later, and gets some of what was under way.
    pub(super) fn disconnect_unevenly(
        &mut self,
        first: usize,
        second: usize,
        late: u64,
    ) -> Result<(), String> {
        let pair = (first.min(second), first.max(second));
        let Some(link) = self.links.remove(&pair) else { return Ok(()) };
        self.note(format_args!("{first} and {second} are cut"));
        for (number, peer) in link.ends {
            let run = self.devices[number].run;
            self.queued.retain(|(from, _), _| *from != number);
            if number == second && late > 0 {
                let until = self.now + self.rng.below(late + 1);
                self.cut_at.insert(peer, until);
                self.late.entry(pair).or_default().push((number, run, peer));
                self.at(self.now + late, What::Down { device: number, run, peer });
            } else {
                self.input(number, run, Input::PeerDown { peer })?;
            }
        }
        Ok(())
    }
}

fn describe(message: &Message) -> String {
    if let Message::Records { request, batches, .. } = message {
        let records = batches.iter().flat_map(|batch| &batch.records).map(|signed| &signed.record);
        let records: Vec<_> = records
            .map(|it| {
                format!(
                    "{} {:?} {:o} by {:?} seen {:?}",
                    it.path, it.body, it.mode, it.dot, it.version
                )
            })
            .collect();
        return format!("Records for {request}: {}", records.join("; "));
    }
    let mut text = format!("{message:?}");
    let mut cut = text.len().min(180);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    text.truncate(cut);
    text
}

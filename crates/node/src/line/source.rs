//! Where a reader takes frames from: the one connection of a link, or all connections of a line that has
//! strands (rule E24).

use std::{mem, sync::Arc};

use bytes::Bytes;
use link::LinkReader;
use tokio::time::timeout;
use wire::{
    frame::{Channel, MAX_FRAME},
    session::Message,
};

use super::{
    SILENCE,
    inbox::{Pulse, ReadEnd},
    merge::Merge,
};

/// What came, in the order in which it was sent.
#[derive(Debug)]
pub(super) enum Frame {
    /// The peer lives.
    Alive,
    Said(Message),
    Folder(u8, Bytes),
}

impl Frame {
    /// Reads a frame that has a number, or says that the peer lives.
    pub(super) fn read(channel: Channel, payload: Bytes) -> Result<Self, ReadEnd> {
        let slot = match channel {
            Channel::Session => match Message::decode(&payload)? {
                Message::Alive => return Ok(Self::Alive),
                Message::Strand(_) | Message::Order(_) => return Err(ReadEnd::Disorder),
                message => return Ok(Self::Said(message)),
            },
            Channel::Folder(slot) => slot,
        };
        Ok(Self::Folder(slot, payload))
    }
}

/// Where frames come from.
pub(super) enum Source {
    One(One),
    Many(Merge),
}

/// The one connection.
pub(super) struct One {
    link: LinkReader,
    /// Bytes that had come when there was silence last.
    received: u64,
    /// The number of the next frame.
    next: u64,
}

impl Source {
    pub(super) fn new(link: LinkReader) -> Self {
        Self::One(One { link, received: 0, next: 0 })
    }

    /// The peer is accepted: larger frames may come.
    pub(super) fn accept(&mut self) {
        if let Self::One(one) = self {
            one.link.set_limit(MAX_FRAME);
        }
    }

    /// From here on frames may come on several connections.
    pub(super) fn widen(&mut self, pulse: &Arc<Pulse>) {
        if let Self::One(One { next, .. }) = *self {
            let many = Self::Many(Merge::new(next, Arc::clone(pulse)));
            if let Self::One(one) = mem::replace(self, many) {
                self.add(one.link, next);
            }
        }
    }

    /// A strand: frames come on it, too. No number is due on it: the first frame says its own.
    pub(super) fn join(&mut self, strand: LinkReader, pulse: &Arc<Pulse>) {
        self.widen(pulse);
        self.add(strand, 0);
    }

    fn add(&mut self, link: LinkReader, next: u64) {
        if let Self::Many(merge) = self {
            merge.add(link, next);
        }
    }

    /// The next frame. Can be dropped without losing anything.
    pub(super) async fn next(&mut self, pulse: &Pulse) -> Result<Frame, ReadEnd> {
        match self {
            Self::One(one) => one.next(pulse).await,
            Self::Many(merge) => merge.next().await,
        }
    }

    /// Reads until the other end closes, and throws away what comes.
    pub(super) async fn drain(&mut self) {
        match self {
            Self::One(one) => while let Ok(Some(_)) = one.link.next().await {},
            Self::Many(merge) => merge.drain().await,
        }
    }
}

impl One {
    async fn next(&mut self, pulse: &Pulse) -> Result<Frame, ReadEnd> {
        loop {
            let (channel, payload) = match timeout(SILENCE, self.link.next()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Err(ReadEnd::Closed),
                Ok(Err(error)) => return Err(error.into()),
                // Part of a large frame came, over a slow line.
                Err(_) if self.link.received() > self.received => {
                    self.received = self.link.received();
                    continue;
                }
                Err(_) => return Err(ReadEnd::Silent),
            };
            self.received = self.link.received();
            pulse.beat();
            let frame = Frame::read(channel, payload)?;
            self.next += u64::from(!matches!(frame, Frame::Alive));
            return Ok(frame);
        }
    }
}

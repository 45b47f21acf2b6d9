//! Strands: further connections of a line between accepted peers, where the way is long (rule E24).
//!
//! The side that dialled the link dials them, too. Each end proves on each of them that it has the link
//! ([`StrandTag`]). Until then nothing rests on them: what fails is forgotten, and the line goes on with what
//! it has. From then on one that breaks ends the line, since frames are missing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use identity::DeviceId;
use link::{Endpoint, LONG_WAY, Link, LinkError, LinkReader, LinkWriter};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tracing::debug;
use wire::{
    frame::Channel,
    session::{Message, StrandTag},
};

use super::{FrameSender, Line, Route};

/// Strands of one line.
pub(super) const MAX_STRANDS: usize = 3;
/// How long a connection that came in may take to say to which line it belongs.
const OFFER: Duration = Duration::from_secs(5);
/// How long the answer may take. Whoever gave the answer relies on the strand: it is longer than what that side waits.
const ANSWER: Duration = Duration::from_secs(10);

/// Where a strand is joined to a line.
pub(super) struct Joint {
    peer: DeviceId,
    exporter: [u8; 32],
    out: FrameSender,
    /// Weak: the line may end meanwhile.
    routes: mpsc::WeakUnboundedSender<Route>,
}

/// Why a connection did not become a strand.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("another device is there now")]
    OtherDevice,
    #[error("the way is short")]
    Short,
    #[error("the other end took too long")]
    Late,
    #[error("the other end closed it")]
    Closed,
    #[error("the other end said something else")]
    OtherWords,
    #[error("it belongs to another link")]
    OtherLink,
    #[error("the line has ended")]
    Ended,
}

impl Line {
    /// Opens strands beside a link that this side dialled, if the way is long. Its peer is accepted, and
    /// its reader was told so.
    pub(crate) fn open_strands(&self, endpoint: &Arc<Endpoint>) {
        self.open_strands_beyond(LONG_WAY, endpoint);
    }

    pub(crate) fn open_strands_beyond(&self, long: Duration, endpoint: &Arc<Endpoint>) {
        let is_long = self.round_trip.is_some_and(|time| time > long);
        if !self.dialled || self.is_carried() || !is_long {
            return;
        }
        for _ in 0..MAX_STRANDS {
            let (joint, endpoint, addr) = (self.joint(), Arc::clone(endpoint), self.addr);
            tokio::spawn(async move {
                if let Err(failure) = joint.offer(&endpoint, addr, long).await {
                    debug!(peer = ?joint.peer, %failure, "no strand");
                }
            });
        }
    }

    /// True if it may get strands that come in. Its owner knows whether its peer is accepted.
    pub(crate) fn takes_strands(&self) -> bool {
        let free = self.strands.available_permits() > 0;
        free && !self.dialled && !self.is_carried() && !self.out.is_closed()
    }

    /// Takes a connection of its peer's for a strand, if it proves in time that it is one of this line.
    pub(crate) fn take_strand(&self, link: Link) {
        let Ok(place) = Arc::clone(&self.strands).try_acquire_owned() else { return };
        if link.peer() != self.peer {
            return;
        }
        let joint = self.joint();
        tokio::spawn(async move {
            if let Err(failure) = joint.answer(link, place).await {
                debug!(peer = ?joint.peer, %failure, "no strand");
            }
        });
    }

    pub(super) fn joint(&self) -> Joint {
        Joint {
            peer: self.peer,
            exporter: self.exporter,
            out: self.out.clone(),
            routes: self.routes.downgrade(),
        }
    }
}

impl Joint {
    /// Dials a strand and has the other end take it.
    pub(super) async fn offer(
        &self,
        endpoint: &Endpoint,
        addr: SocketAddr,
        long: Duration,
    ) -> Result<(), Failure> {
        let link = endpoint.dial_strand(addr).await?;
        if link.peer() != self.peer {
            return Err(Failure::OtherDevice);
        }
        // A busy machine may have made the link's way look long.
        if link.round_trip().is_none_or(|time| time <= long) {
            return Err(Failure::Short);
        }
        let exporter = link.exporter();
        let (mut reader, mut writer) = link.split();
        // The other end may send on it as soon as it knows whose it is, and tells of that on the link.
        self.tell(Route::Strands)?;
        say(&mut writer, StrandTag::offer(&self.exporter, &exporter)).await?;
        let answer = timeout(ANSWER, hear(&mut reader)).await.map_err(|_| Failure::Late)??;
        if answer != StrandTag::answer(&self.exporter, &exporter) {
            return Err(Failure::OtherLink);
        }
        self.tell(Route::Strand(reader))?;
        self.out.attach(writer).await;
        Ok(())
    }

    /// Hears whose strand it is that came in, and takes it.
    pub(super) async fn answer(
        &self,
        link: Link,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Failure> {
        let exporter = link.exporter();
        let (mut reader, mut writer) = link.split();
        let offer = timeout(OFFER, hear(&mut reader)).await.map_err(|_| Failure::Late)??;
        if offer != StrandTag::offer(&self.exporter, &exporter) {
            return Err(Failure::OtherLink);
        }
        // Before the other end can rely on it.
        self.tell(Route::Strand(reader))?;
        place.forget();
        say(&mut writer, StrandTag::answer(&self.exporter, &exporter)).await?;
        self.out.attach(writer).await;
        Ok(())
    }

    fn tell(&self, route: Route) -> Result<(), Failure> {
        let routes = self.routes.upgrade().ok_or(Failure::Ended)?;
        routes.send(route).map_err(|_| Failure::Ended)
    }
}

async fn say(writer: &mut LinkWriter, tag: StrandTag) -> Result<(), LinkError> {
    writer.send(Channel::Session, &Message::Strand(tag).encode()).await?;
    writer.flush().await
}

async fn hear(reader: &mut LinkReader) -> Result<StrandTag, Failure> {
    match reader.next().await?.ok_or(Failure::Closed)? {
        (Channel::Session, payload) => match Message::decode(&payload) {
            Ok(Message::Strand(tag)) => Ok(tag),
            _ => Err(Failure::OtherWords),
        },
        (Channel::Folder(_), _) => Err(Failure::OtherWords),
    }
}

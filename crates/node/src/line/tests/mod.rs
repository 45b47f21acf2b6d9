//! Lines with strands, over real connections on loopback. Here every way counts as long.

mod flow;
mod hostile;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use identity::{DeviceKey, Secret};
use link::{Endpoint, Limits, Link, LinkError, LinkReader, LinkWriter, Listener};
use tokio::{sync::mpsc, time::timeout};
use wire::{
    frame::Channel,
    session::{Message, StrandTag},
};

use super::{ConnId, FrameReceiver, Internal, Line, Route, inbox, inbox::ReadEnd, strand::Failure};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn endpoint(seed: u8) -> Arc<Endpoint> {
    let key = DeviceKey::from_seed(&Secret::new([seed; 32])).expect("any seed is a key");
    Arc::new(Endpoint::new(&Arc::new(key), Limits::default()).expect("TLS can be set up"))
}

/// A device with key 2 that is dialled by one with key 1.
struct Place {
    dialling: Arc<Endpoint>,
    listener: Listener,
}

impl Place {
    async fn new() -> Self {
        let listener = Listener::bind(endpoint(2), 0).await.expect("a free port");
        Self { dialling: endpoint(1), listener }
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.listener.port()).into()
    }

    async fn accept(&mut self) -> Link {
        let link = timeout(LONG, self.listener.accept()).await.expect("a link in time");
        link.expect("the listener lives")
    }

    /// A link, both ends.
    async fn link(&mut self) -> (Link, Link) {
        let dialled = self.dialling.dial(self.addr()).await.expect("a link");
        (dialled, self.accept().await)
    }

    /// A connection that is to be a strand, both ends.
    async fn strand(&mut self) -> (Link, Link) {
        let dialled = self.dialling.dial_strand(self.addr()).await.expect("a connection");
        (dialled, self.accept().await)
    }

    /// A line of accepted peers, both ends.
    async fn line(&mut self) -> (Side, Side) {
        let (dialled, answered) = self.link().await;
        (Side::new(dialled), Side::new(answered))
    }

    /// The same with so many strands.
    async fn line_with(&mut self, strands: usize) -> (Side, Side) {
        let (left, right) = self.line().await;
        for _ in 0..strands {
            self.join(&left, &right).await.expect("a strand");
        }
        (left, right)
    }

    /// One more strand, from offer to answer.
    async fn join(&mut self, left: &Side, right: &Side) -> Result<(), Failure> {
        let (addr, dialling) = (self.addr(), Arc::clone(&self.dialling));
        let joint = left.line.joint();
        let offered = joint.offer(&dialling, addr, Duration::ZERO);
        let answered = async {
            let link = self.accept().await;
            match Arc::clone(&right.line.strands).try_acquire_owned() {
                Ok(place) => right.line.joint().answer(link, place).await,
                Err(_) => Ok(()),
            }
        };
        let (offered, answered) = tokio::join!(offered, answered);
        offered.and(answered)
    }

    /// A line whose other end is bare connections, the link first, with so many strands. The line answers.
    async fn line_to_bare(&mut self, strands: usize) -> (Side, Vec<Bare>) {
        let (dialled, answered) = self.link().await;
        let exporter = dialled.exporter();
        let side = Side::new(answered);
        let mut bare = vec![Bare::new(dialled)];
        for _ in 0..strands {
            bare.push(self.bare_strand(&side, &exporter).await.expect("a strand"));
        }
        (side, bare)
    }

    /// One more strand of such a line, offered as one of the link with this exporter.
    async fn bare_strand(&mut self, side: &Side, link: &[u8; 32]) -> Result<Bare, Failure> {
        let (dialled, answered) = self.strand().await;
        let exporter = dialled.exporter();
        let mut bare = Bare::new(dialled);
        bare.say(&Message::Strand(StrandTag::offer(link, &exporter))).await;
        let place = Arc::clone(&side.line.strands).try_acquire_owned().expect("a place");
        side.line.joint().answer(answered, place).await?;
        let answer = Message::Strand(StrandTag::answer(link, &exporter));
        assert_eq!(bare.hear().await, Some((Channel::Session, answer.encode())));
        Ok(bare)
    }
}

/// What a line tells its owner.
#[derive(Debug)]
enum Told {
    Said(Message),
    ReadEnded(ReadEnd),
    WriteEnded,
}

/// One end of a line between accepted peers, with its folder 0.
struct Side {
    line: Line,
    input: FrameReceiver,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Side {
    fn new(link: Link) -> Self {
        let (owner, mut internal) = mpsc::channel(16);
        let line = Line::start(ConnId(1), link, &owner);
        let (folder, input) = inbox::folder(false);
        line.routes.send(Route::Accepted).expect("it reads");
        line.routes.send(Route::Open(0, folder)).expect("it reads");
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(internal) = internal.recv().await {
                let news = match internal {
                    Internal::Heard { message, done, .. } => {
                        let _ = done.send(());
                        Told::Said(message)
                    }
                    Internal::ReadEnded { end, .. } => Told::ReadEnded(end),
                    Internal::WriteEnded { .. } => Told::WriteEnded,
                    Internal::Dialled { .. } => continue,
                };
                let _ = tell.send(news);
            }
        });
        Self { line, input, told }
    }

    fn send(&self, payload: impl Into<Bytes>) {
        assert!(self.line.out.send(Channel::Folder(0), payload.into()), "the line lives");
    }

    async fn frame(&mut self) -> Bytes {
        let incoming = timeout(LONG, self.input.recv()).await.expect("a frame in time");
        incoming.expect("the line lives").payload
    }

    async fn told(&mut self) -> Told {
        timeout(LONG, self.told.recv()).await.expect("news in time").expect("the owner lives")
    }

    async fn read_ended(&mut self) -> ReadEnd {
        loop {
            if let Told::ReadEnded(end) = self.told().await {
                return end;
            }
        }
    }
}

/// One connection with nothing behind it.
struct Bare {
    reader: LinkReader,
    writer: LinkWriter,
}

impl Bare {
    fn new(link: Link) -> Self {
        let (mut reader, writer) = link.split();
        reader.set_limit(wire::frame::MAX_FRAME);
        Self { reader, writer }
    }

    async fn say(&mut self, message: &Message) {
        self.frame(Channel::Session, &message.encode()).await;
    }

    async fn frame(&mut self, channel: Channel, payload: &[u8]) {
        self.writer.send(channel, payload).await.expect("a connection");
        self.writer.flush().await.expect("a connection");
    }

    /// The next frame; `None` once the other end has closed.
    async fn hear(&mut self) -> Option<(Channel, Bytes)> {
        self.next().await.expect("no cut")
    }

    async fn next(&mut self) -> Result<Option<(Channel, Bytes)>, LinkError> {
        timeout(LONG, self.reader.next()).await.expect("something in time")
    }
}

/// Numbers that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

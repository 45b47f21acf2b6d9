//! A link as the ceremony uses it: messages with a limit on how long they take.

use std::time::Duration;

use identity::DeviceId;
use link::{Link, LinkReader, LinkWriter};
use tokio::time::timeout;
use wire::{
    frame::Channel,
    ssh::{MAX_WORDS, Message, Refusal},
};

/// How long a step may take that needs no person.
pub(super) const STEP: Duration = Duration::from_secs(10);

/// Why nothing more comes on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// The other side, or its person, said no, and why.
    Refused(Refusal, String),
    /// It broke off.
    Lost(String),
}

pub(super) struct Line {
    pub(super) peer: DeviceId,
    pub(super) addr: std::net::SocketAddr,
    pub(super) dialled: bool,
    pub(super) exporter: [u8; 32],
    reader: LinkReader,
    writer: LinkWriter,
}

impl Line {
    pub(super) fn new(link: Link) -> Self {
        let (peer, addr, dialled, exporter) =
            (link.peer(), super::desk::plain(link.addr()), link.dialled(), link.exporter());
        let (reader, writer) = link.split();
        Self { peer, addr, dialled, exporter, reader, writer }
    }

    pub(super) async fn say(&mut self, message: &Message) -> Result<(), Broken> {
        let sending = async {
            self.writer.send(Channel::Session, &message.encode()).await?;
            self.writer.flush().await
        };
        match timeout(STEP, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Broken::Lost(error.to_string())),
            Err(_) => Err(Broken::Lost("it does not read".to_owned())),
        }
    }

    /// The next message, however long it takes. Can be dropped without losing one.
    pub(super) async fn next(&mut self) -> Result<Message, Broken> {
        let lost = |why: &str| Broken::Lost(why.to_owned());
        let message = match self.reader.next().await {
            Ok(Some((Channel::Session, payload))) => Message::decode(&payload)
                .map_err(|error| lost(&format!("it broke the ceremony: {error}")))?,
            Ok(Some(_)) => return Err(lost("it broke the ceremony")),
            Ok(None) => return Err(lost("the other side has left")),
            Err(error) => return Err(Broken::Lost(error.to_string())),
        };
        match message {
            Message::Refused { reason, words } => Err(Broken::Refused(reason, words)),
            message => Ok(message),
        }
    }

    /// The next message, which needs no person.
    pub(super) async fn soon(&mut self) -> Result<Message, Broken> {
        let late = |_| Broken::Lost("it did not answer in time".to_owned());
        timeout(STEP, self.next()).await.map_err(late)?
    }

    /// Says why it ends, and ends it.
    pub(super) async fn refuse(mut self, reason: Refusal, words: &str) {
        let mut end = words.len().min(MAX_WORDS);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        let words = words.get(..end).unwrap_or_default().to_owned();
        // It ends either way.
        let _ = self.say(&Message::Refused { reason, words }).await;
        self.close().await;
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        self.writer.close().await;
    }
}

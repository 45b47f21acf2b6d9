//! Receiving a mailbox.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use wire::relay::{Ack, Answer, Item, MAX_ACKS, MAX_ANSWER, OwnerKey, Receive, Signed};

use super::{ClientError, splice::upgraded, told};
use crate::{
    RelayAddress,
    frames::{self, FrameReader},
    tls,
};

/// The protocol that the stream is upgraded to.
const PROTOCOL: &str = "kin-receive/1";

/// A mailbox that is received.
#[derive(Debug)]
pub struct Inbox {
    reader: InboxReader,
    writer: InboxWriter,
}

/// Its half that receives.
#[derive(Debug)]
pub struct InboxReader {
    stream: ReadHalf<TokioIo<Upgraded>>,
    frames: FrameReader,
    last: u64,
}

/// Its half that acknowledges.
#[derive(Debug)]
pub struct InboxWriter {
    stream: WriteHalf<TokioIo<Upgraded>>,
}

impl Inbox {
    pub(super) async fn open(
        stream: TlsStream<TcpStream>,
        address: &RelayAddress,
        key: &OwnerKey,
    ) -> Result<Self, ClientError> {
        let broken = |error: std::io::Error| ClientError::broken(&error);
        let channel =
            tls::channel(stream.get_ref().1).map_err(|error| ClientError::broken(&error))?;
        let mut stream = upgraded(stream, address, "/v1/mailbox/receive", PROTOCOL).await?;
        let signature = Signed::Receive.sign(&channel, key);
        let first = Receive { owner: key.owner(), signature };
        frames::write(&mut stream, &first.encode()).await.map_err(broken)?;
        let answer = frames::read_exactly_one(&mut stream, MAX_ANSWER).await.map_err(broken)?;
        match Answer::decode(&answer).map_err(|error| ClientError::broken(&error))? {
            Answer::Done => {}
            Answer::Refused(refusal) => return Err(told(refusal)),
            Answer::Entry(_) | Answer::Absent => {
                return Err(ClientError::Broken("it answered another question".to_owned()));
            }
        }
        let (read, write) = tokio::io::split(stream);
        let reader = InboxReader { stream: read, frames: FrameReader::default(), last: 0 };
        Ok(Self { reader, writer: InboxWriter { stream: write } })
    }

    /// As [`InboxReader::next`].
    ///
    /// # Errors
    /// As there.
    pub async fn next(&mut self) -> Result<Item, ClientError> {
        self.reader.next().await
    }

    /// As [`InboxWriter::acknowledge`].
    ///
    /// # Errors
    /// As there.
    pub async fn acknowledge(&mut self, numbers: &[u64]) -> Result<(), ClientError> {
        self.writer.acknowledge(numbers).await
    }

    /// Its two halves.
    #[must_use]
    pub fn split(self) -> (InboxReader, InboxWriter) {
        (self.reader, self.writer)
    }
}

impl InboxReader {
    /// The next envelope. It comes again, on another connection, unless it is acknowledged. Can be dropped
    /// without losing one.
    ///
    /// # Errors
    /// If the connection ends: the mailbox is to be received anew then.
    pub async fn next(&mut self) -> Result<Item, ClientError> {
        let frame: Option<Bytes> = self
            .frames
            .next(&mut self.stream, MAX_ANSWER)
            .await
            .map_err(|error| ClientError::broken(&error))?;
        let frame = frame.ok_or_else(|| ClientError::Broken("it hung up".to_owned()))?;
        let item = Item::decode(&frame).map_err(|error| ClientError::broken(&error))?;
        if item.number <= self.last {
            return Err(ClientError::Broken("it sent envelopes out of order".to_owned()));
        }
        self.last = item.number;
        Ok(item)
    }
}

impl InboxWriter {
    /// Says that envelopes were handled: the relay deletes them. The relay sends no more while some hundred are
    /// not acknowledged.
    ///
    /// # Errors
    /// If the connection ends: they may come again then.
    pub async fn acknowledge(&mut self, numbers: &[u64]) -> Result<(), ClientError> {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        for numbers in numbers.chunks(MAX_ACKS) {
            let ack = Ack { numbers: numbers.to_vec() };
            frames::write(&mut self.stream, &ack.encode())
                .await
                .map_err(|error| ClientError::broken(&error))?;
        }
        Ok(())
    }
}

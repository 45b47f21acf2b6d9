//! A link: frames to and from one device that has proven its key.

use std::{
    fmt,
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use identity::DeviceId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::timeout,
};
use tokio_rustls::TlsStream;
use tracing::debug;
use wire::{
    buffer::{self, Buffer},
    frame::{Channel, HEADER_LEN, MAX_STRANGER_FRAME, decode_header, encode_header},
};

use crate::{LinkError, buffered::ReadAhead, carrier::Carrier, socket, tls::EXPORTER};

/// A way there and back that takes longer than this is long (rule E24).
pub const LONG_WAY: Duration = Duration::from_millis(5);

/// Frames are collected up to this many bytes before they are encrypted and sent together.
const COLLECT: usize = 256 * 1024;
/// From this payload on, a frame is not copied into the collection but sent from where it lies.
const DIRECT: usize = 32 * 1024;
/// Bytes by which a reader's memory grows while less than a whole frame's header is known.
const STEP: usize = 16 * 1024;
/// Plaintext that TLS takes at once: what one large write to the socket is made of.
const TLS_BUFFER: usize = 256 * 1024;
/// How long saying goodbye may take if the other end does not read.
const GOODBYE: Duration = Duration::from_secs(1);

type Stream = TlsStream<ReadAhead<Carrier>>;

/// A mutually authenticated, encrypted connection to a peer.
///
/// Dropping it, or both of its halves, cuts it: only [`LinkWriter::close`] says goodbye.
pub struct Link {
    stream: Stream,
    peer: DeviceId,
    addr: SocketAddr,
    dialled: bool,
    strand: bool,
    round_trip: Option<Duration>,
    exporter: [u8; 32],
    key_exchange: String,
}

impl Link {
    pub(crate) fn new(
        mut stream: Stream,
        peer: DeviceId,
        addr: SocketAddr,
        dialled: bool,
        strand: bool,
    ) -> Result<Self, LinkError> {
        let mut exporter = [0; 32];
        match &mut stream {
            TlsStream::Client(client) => {
                let (_, connection) = client.get_mut();
                connection.set_buffer_limit(Some(TLS_BUFFER));
                connection.export_keying_material(&mut exporter, EXPORTER, None)
            }
            TlsStream::Server(server) => {
                let (_, connection) = server.get_mut();
                connection.set_buffer_limit(Some(TLS_BUFFER));
                connection.export_keying_material(&mut exporter, EXPORTER, None)
            }
        }
        .map_err(|error| LinkError::Setup(error.to_string()))?;
        let (_, connection) = stream.get_ref();
        let key_exchange = connection
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name()))
            .unwrap_or_default();
        Ok(Self { stream, peer, addr, dialled, strand, round_trip: None, exporter, key_exchange })
    }

    /// The device at the other end, by the key that it proved.
    #[must_use]
    pub fn peer(&self) -> DeviceId {
        self.peer
    }

    /// True if this side dialled, and is the TLS client.
    #[must_use]
    pub fn dialled(&self) -> bool {
        self.dialled
    }

    /// True if it is no link of its own but is to belong to another one with the same peer.
    #[must_use]
    pub fn is_strand(&self) -> bool {
        self.strand
    }

    /// How long the way to the other end and back took at most, as far as the handshake has shown it.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
        let (ahead, _) = self.stream.get_ref();
        if let Carrier::Tcp(stream) = ahead.stream()
            && round_trip > LONG_WAY
            && let Err(error) = socket::tune_long(stream)
        {
            debug!(%error, "the socket cannot be set up for a long way");
        }
    }

    /// The other end's address and port. Of a link that came in, the port is a passing one.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// True if somebody else carries it, such as a relay: then the address is 0.0.0.0:0.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        is_nowhere(&self.addr)
    }

    /// The name of the key exchange, as TLS registers it: `X25519MLKEM768` between two of us.
    #[must_use]
    pub fn key_exchange(&self) -> &str {
        &self.key_exchange
    }

    /// Key material of this link alone, equal at both ends (RFC 8446, section 7.5, label
    /// `EXPORTER-kinfold-link`, no context). Ceremonies bind it.
    #[must_use]
    pub fn exporter(&self) -> [u8; 32] {
        self.exporter
    }

    /// Parts the link into a half that reads and one that writes, for two tasks.
    #[must_use]
    pub fn split(self) -> (LinkReader, LinkWriter) {
        let mut stream = self.stream;
        match &mut stream {
            TlsStream::Client(client) => client.get_mut().0.widen(),
            TlsStream::Server(server) => server.get_mut().0.widen(),
        }
        let (read, write) = split(stream);
        (
            LinkReader {
                stream: read,
                buffer: BytesMut::new(),
                large: None,
                limit: MAX_STRANGER_FRAME,
                received: 0,
            },
            LinkWriter { stream: write, collected: BytesMut::new(), torn: false },
        )
    }
}

/// The address of a link that somebody else carries.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn is_nowhere(addr: &SocketAddr) -> bool {
    *addr == NOWHERE
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.dialled { "to" } else { "from" };
        write!(f, "Link({way} {:?} at {})", self.peer, self.addr)
    }
}

/// The half of a link that reads frames.
pub struct LinkReader {
    stream: ReadHalf<Stream>,
    buffer: BytesMut,
    /// A large frame that has begun: its channel, its payload, and how much of that is here.
    large: Option<(Channel, Buffer, usize)>,
    limit: usize,
    received: u64,
}

impl LinkReader {
    /// Sets the largest payload, in bytes, that is accepted from here on. At first it is
    /// [`wire::frame::MAX_STRANGER_FRAME`]; for an accepted peer it is [`wire::frame::MAX_FRAME`].
    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// Bytes received so far, also of frames that are not whole yet: on a slow line the only sign that
    /// the other end lives.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next frame; `None` if the other end said goodbye after a whole frame. Can be dropped
    /// without losing anything.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] and [`LinkError::Malformed`] for a header, before anything is
    /// allocated for it; [`LinkError::Cut`] if the link ends without goodbye or within a frame;
    /// [`LinkError::Tls`] if TLS was broken. None of them can be recovered from.
    pub async fn next(&mut self) -> Result<Option<(Channel, Bytes)>, LinkError> {
        loop {
            if let Some(frame) = self.next_large().await? {
                return Ok(Some(frame));
            }
            let wanted = match self.buffer.first_chunk::<HEADER_LEN>() {
                Some(&header) => {
                    let (channel, len) =
                        decode_header(header, self.limit).map_err(LinkError::frame)?;
                    if self.buffer.len() >= HEADER_LEN + len {
                        self.buffer.advance(HEADER_LEN);
                        return Ok(Some((channel, self.buffer.split_to(len).freeze())));
                    }
                    if len >= buffer::LARGE {
                        self.buffer.advance(HEADER_LEN);
                        let mut payload = Buffer::new(len);
                        let here = self.buffer.split();
                        payload.as_mut()[..here.len()].copy_from_slice(&here);
                        self.large = Some((channel, payload, here.len()));
                        continue;
                    }
                    // A stranger's frame is at most one step, so nothing is reserved on its word.
                    HEADER_LEN + len - self.buffer.len()
                }
                None => HEADER_LEN,
            };
            self.buffer.reserve(wanted.max(STEP));
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(LinkError::Cut),
                Ok(more) => self.received += more as u64,
                Err(error) => return Err(LinkError::io(error)),
            }
        }
    }
}

impl LinkReader {
    /// The rest of a large frame, if one has begun.
    async fn next_large(&mut self) -> Result<Option<(Channel, Bytes)>, LinkError> {
        let Some((_, payload, here)) = &mut self.large else { return Ok(None) };
        while *here < payload.as_ref().len() {
            match self.stream.read(&mut payload.as_mut()[*here..]).await {
                Ok(0) => return Err(LinkError::Cut),
                Ok(more) => {
                    *here += more;
                    self.received += more as u64;
                }
                Err(error) => return Err(LinkError::io(error)),
            }
        }
        Ok(self.large.take().map(|(channel, payload, _)| (channel, payload.freeze())))
    }
}

/// The half of a link that writes frames.
pub struct LinkWriter {
    stream: WriteHalf<Stream>,
    collected: BytesMut,
    /// A large frame was begun and not finished.
    torn: bool,
}

impl LinkWriter {
    /// Adds a frame. It is on its way at the latest after [`LinkWriter::flush`]; waits while the
    /// other end does not read. A call that is dropped before it ends may close the link.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] for a payload over [`wire::frame::MAX_FRAME`]; [`LinkError::Cut`],
    /// [`LinkError::Closed`] or [`LinkError::Tls`] if the link is no more.
    pub async fn send(&mut self, channel: Channel, payload: &[u8]) -> Result<(), LinkError> {
        self.send_slices(channel, &mut [IoSlice::new(payload)]).await
    }

    /// As [`LinkWriter::send`], for a payload in parts that follow each other.
    ///
    /// # Errors
    /// As [`LinkWriter::send`].
    pub async fn send_parts(&mut self, channel: Channel, parts: &[Bytes]) -> Result<(), LinkError> {
        let mut parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        self.send_slices(channel, &mut parts).await
    }

    async fn send_slices(
        &mut self,
        channel: Channel,
        parts: &mut [IoSlice<'_>],
    ) -> Result<(), LinkError> {
        if self.torn {
            return Err(LinkError::Closed);
        }
        let len = parts.iter().map(|part| part.len()).sum();
        let header = encode_header(channel, len).map_err(LinkError::frame)?;
        self.collected.extend_from_slice(&header);
        if len < DIRECT {
            parts.iter().for_each(|part| self.collected.extend_from_slice(part));
            if self.collected.len() >= COLLECT {
                return self.drain(&mut []).await;
            }
            return Ok(());
        }
        self.drain(parts).await
    }

    /// Sends everything that was collected, as far as the system's own buffers.
    ///
    /// # Errors
    /// As [`LinkWriter::send`].
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        if self.torn {
            return Err(LinkError::Closed);
        }
        self.drain(&mut []).await?;
        self.stream.flush().await.map_err(LinkError::io)
    }

    /// Sends what was collected and says goodbye, so that the other end knows that nothing is
    /// missing. Gives up after one second if the other end does not read.
    pub async fn close(mut self) {
        let goodbye = async {
            self.flush().await?;
            self.stream.shutdown().await.map_err(LinkError::io)
        };
        // Nobody is left to be told: the other end sees a cut link.
        let _: Result<Result<(), LinkError>, _> = timeout(GOODBYE, goodbye).await;
    }

    /// Writes the collection and then `parts`, without copying the latter.
    async fn drain(&mut self, parts: &mut [IoSlice<'_>]) -> Result<(), LinkError> {
        // What was collected is still there after a write that was broken off; `parts` are not.
        self.torn = !parts.is_empty();
        write_all(&mut self.stream, &mut self.collected, parts).await.map_err(LinkError::io)?;
        self.torn = false;
        Ok(())
    }
}

async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    first: &mut BytesMut,
    mut parts: &mut [IoSlice<'_>],
) -> io::Result<()> {
    while !first.is_empty() {
        let begin = [IoSlice::new(first)];
        let all: Vec<_> = begin.iter().chain(&*parts).copied().collect();
        let written = stream.write_vectored(&all).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_first = written.min(first.len());
        first.advance(of_first);
        IoSlice::advance_slices(&mut parts, written - of_first);
    }
    // Empty ones at the front are no reason to write.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let written = stream.write_vectored(parts).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}

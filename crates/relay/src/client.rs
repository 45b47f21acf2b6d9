//! The client: what a device asks of a relay.
//!
//! Nothing that a relay answers makes it trusted. Each request of [`Client`] has a connection of its own, with
//! nothing resumed, so that the relay cannot tell by its connections which requests belong together.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wire::relay::{
    Deposit, DepositToken, LookupId, MailboxId, MeetingId, OwnerKey, Refusal, check_entry,
    check_envelope,
};

use crate::{RelayAddress, TlsError, socket, tls};

mod connection;
mod inbox;
mod splice;

pub use connection::Connection;
pub use inbox::{Inbox, InboxReader, InboxWriter};
pub use splice::Splice;

/// What it may take to connect, and to be answered.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a relay did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It says so, or what it was to be asked is nothing that it may be asked.
    #[error("the relay refuses: {0}")]
    Refused(Refusal),
    /// It cannot be reached.
    #[error("the relay at {host}:{port} cannot be reached: {why}")]
    Unreachable {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What the system says.
        why: String,
    },
    /// Whoever answers there cannot prove that it is the relay.
    #[error("{host}:{port} is not the relay that its address names: {why}")]
    NotTheRelay {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// In what.
        why: String,
    },
    /// It broke off, or said something that makes no sense.
    #[error("the relay broke off: {0}")]
    Broken(String),
    /// TLS cannot be set up here.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ClientError {
    /// True if asking again in the same words makes no sense, whatever the relay does: what was to be sent is
    /// wrong in itself. What a relay alone says is never a reason to give something up.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_permanent())
    }

    /// What went wrong, and why.
    fn broken(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut said = error.to_string();
        let mut cause = Some(error);
        while let Some(inner) = cause {
            // Those under our own ends speak to programmers.
            if let Some(why) = plain(inner) {
                return Self::Broken(why);
            }
            if !said.ends_with(&inner.to_string()) {
                said = format!("{said}: {inner}");
            }
            cause = inner.source();
        }
        Self::Broken(said)
    }
}

/// In our words, if there are any.
fn plain(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls::in_words(error));
    }
    let error = error.downcast_ref::<io::Error>()?;
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Some("it ended the connection".to_owned()),
        // As it is, where the system says so; else whatever it holds says it.
        _ => match error.get_ref() {
            Some(inner) => plain(inner),
            None => Some(error.to_string()),
        },
    }
}

/// A refusal of something that was checked here before it was sent. That it is too large or malformed is then
/// the relay's word against ours.
fn told(refusal: Refusal) -> ClientError {
    match refusal {
        Refusal::TooLarge | Refusal::Malformed => {
            ClientError::Broken(format!("it says that {refusal}, which is not so"))
        }
        Refusal::Taken
        | Refusal::Denied
        | Refusal::Full
        | Refusal::Limited { .. }
        | Refusal::Unavailable => ClientError::Refused(refusal),
    }
}

/// A relay, as a device knows it. Holds no connection.
#[derive(Clone)]
pub struct Client {
    address: RelayAddress,
    requests: TlsConnector,
    streams: TlsConnector,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

impl Client {
    /// A client of that relay. Nothing is sent yet.
    ///
    /// # Errors
    /// If TLS cannot be set up: for a relay with a certificate, if this system trusts nobody.
    pub fn new(address: &RelayAddress) -> Result<Self, ClientError> {
        Self::trusting(address, None)
    }

    /// A client of a relay whose certificate is of this authority (a certificate in PEM), whatever the system
    /// trusts. For a relay with a key in its address it changes nothing.
    ///
    /// # Errors
    /// If there is no certificate in it.
    pub fn with_authority(address: &RelayAddress, pem: &[u8]) -> Result<Self, ClientError> {
        Self::trusting(address, Some(pem))
    }

    fn trusting(address: &RelayAddress, authority: Option<&[u8]>) -> Result<Self, ClientError> {
        let connector = |protocol| {
            let config = tls::client(address, authority, protocol)?;
            Ok::<_, TlsError>(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self {
            address: address.clone(),
            requests: connector(tls::HTTP2)?,
            streams: connector(tls::HTTP1)?,
        })
    }

    /// The relay's address.
    #[must_use]
    pub fn address(&self) -> &RelayAddress {
        &self.address
    }

    /// Connects, for many requests on one connection, which the relay can tell to belong together.
    ///
    /// # Errors
    /// If it cannot be reached, or is not the relay.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        in_time(async { Connection::open(self.dial(&self.requests).await?).await }).await
    }

    /// Puts a sealed entry of one of [`wire::relay::ENTRY_SIZES`] under a lookup id, until then (seconds since
    /// 1970). An entry of the same key is replaced.
    ///
    /// # Errors
    /// [`Refusal::Taken`] if another key owns the entry; what else may happen.
    pub async fn put(
        &self,
        key: &OwnerKey,
        lookup: LookupId,
        until: u64,
        entry: Bytes,
    ) -> Result<(), ClientError> {
        check_entry(&entry).map_err(|_| ClientError::Refused(Refusal::TooLarge))?;
        self.connect().await?.put(key, lookup, until, entry).await
    }

    /// The entry under a lookup id; `None` if there is none, as far as the relay says.
    ///
    /// # Errors
    /// What may happen.
    pub async fn get(&self, lookup: LookupId) -> Result<Option<Bytes>, ClientError> {
        self.connect().await?.get(lookup).await
    }

    /// Takes an entry back. It is no error if there is none.
    ///
    /// # Errors
    /// What may happen.
    pub async fn withdraw(&self, key: &OwnerKey, lookup: LookupId) -> Result<(), ClientError> {
        self.connect().await?.withdraw(key, lookup).await
    }

    /// Makes the mailbox of this key if there is none, and opens its members' lane to this token alone: the one
    /// before is worth nothing any more (rule T22). What is in the mailbox stays.
    ///
    /// # Errors
    /// What may happen.
    pub async fn settle(&self, key: &OwnerKey, token: &DepositToken) -> Result<(), ClientError> {
        self.connect().await?.settle(key, token).await
    }

    /// Removes the mailbox of this key and what is in it.
    ///
    /// # Errors
    /// What may happen.
    pub async fn remove(&self, key: &OwnerKey) -> Result<(), ClientError> {
        self.connect().await?.remove(key).await
    }

    /// Leaves an envelope in a mailbox: with its members' token in their lane, without in that of strangers.
    /// Nothing says who does. Durable when this returns.
    ///
    /// # Errors
    /// [`ClientError::is_permanent`] only if the envelope is none; else it may be tried again, also if the relay
    /// says that there is no such mailbox (which is [`Refusal::Unavailable`]).
    pub async fn deposit(
        &self,
        mailbox: MailboxId,
        token: Option<&DepositToken>,
        envelope: Bytes,
    ) -> Result<(), ClientError> {
        check_envelope(&envelope).map_err(|_| ClientError::Refused(Refusal::Malformed))?;
        let deposit = Deposit { mailbox, token: token.cloned(), envelope };
        self.connect().await?.deposit(&deposit).await
    }

    /// Receives the mailbox of this key: first what is in it, then what comes.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if there is no such mailbox: [`Client::settle`] makes it (anew).
    pub async fn receive(&self, key: &OwnerKey) -> Result<Inbox, ClientError> {
        in_time(async { Inbox::open(self.dial(&self.streams).await?, &self.address, key).await })
            .await
    }

    /// Meets another device under an id that both know, and returns when it is there: what is written here is
    /// read there. Waits for at most `patience`, and no longer than the relay does (a minute).
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] if nobody came.
    pub async fn splice(
        &self,
        meeting: MeetingId,
        patience: Duration,
    ) -> Result<Splice, ClientError> {
        let stream = in_time(self.dial(&self.streams)).await?;
        Splice::open(stream, &self.address, meeting, patience).await
    }

    async fn dial(&self, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, ClientError> {
        let (host, port) = (self.address.host(), self.address.port());
        let unreachable = |why: &dyn ToString| ClientError::Unreachable {
            host: host.to_owned(),
            port,
            why: why.to_string(),
        };
        let stream = TcpStream::connect((host, port)).await.map_err(|error| unreachable(&error))?;
        socket::tune(&stream).map_err(|error| unreachable(&error))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unreachable(&error))?;
        connector.connect(name, stream).await.map_err(|error| {
            match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
                // What it showed is not what the address names, or it has nothing to show.
                Some(why) => ClientError::NotTheRelay {
                    host: host.to_owned(),
                    port,
                    why: tls::in_words(why),
                },
                None => unreachable(&plain(&error).unwrap_or_else(|| error.to_string())),
            }
        })
    }
}

/// Ends what takes too long.
async fn in_time<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(ClientError::Broken(format!("no answer in {} s", PATIENCE.as_secs()))),
    }
}

//! This device as an end of links: its TLS configuration, and dialling.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use identity::{DeviceId, DeviceKey};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    Limits, Link, LinkError,
    buffered::ReadAhead,
    carrier::{Carrier, Through},
    error::same_place,
    link::NOWHERE,
    socket,
    tls::{self, Protocol},
};

/// Everything that is needed to make links: a device's key as TLS knows it, and the limits.
pub struct Endpoint {
    keyed: RwLock<Keyed>,
    limits: Limits,
    protocol: Protocol,
}

/// What follows from the key, which may change ([`Endpoint::rekey`]).
#[derive(Clone)]
struct Keyed {
    own: DeviceId,
    connector: TlsConnector,
    /// For strands; `None` where links have none.
    strands: Option<TlsConnector>,
    acceptor: TlsAcceptor,
}

impl Keyed {
    fn new(key: &Arc<DeviceKey>, protocol: Protocol) -> Result<Self, LinkError> {
        let (client, server) = tls::configs(key, protocol)?;
        let strands = protocol.strand_alpn().map(|alpn| {
            let mut client = client.clone();
            client.alpn_protocols = vec![alpn.to_vec()];
            Arc::new(client).into()
        });
        Ok(Self {
            own: key.id(),
            connector: Arc::new(client).into(),
            strands,
            acceptor: Arc::new(server).into(),
        })
    }
}

impl Endpoint {
    /// Makes the endpoint of the device that has this key.
    ///
    /// # Errors
    /// [`LinkError::Setup`] if the cryptographic library cannot be used.
    pub fn new(key: &Arc<DeviceKey>, limits: Limits) -> Result<Self, LinkError> {
        Self::speaking(Protocol::Devices, key, limits)
    }

    /// As [`Endpoint::new`], for links of another protocol.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn speaking(
        protocol: Protocol,
        key: &Arc<DeviceKey>,
        limits: Limits,
    ) -> Result<Self, LinkError> {
        Ok(Self { keyed: RwLock::new(Keyed::new(key, protocol)?), limits, protocol })
    }

    /// Goes on as the device that has this key: links that are made from now on are its. Those that are there
    /// stay what they were, and whoever has them ends them.
    ///
    /// # Errors
    /// [`LinkError::Setup`] if the cryptographic library cannot be used; the old key stays then.
    pub fn rekey(&self, key: &Arc<DeviceKey>) -> Result<(), LinkError> {
        let keyed = Keyed::new(key, self.protocol)?;
        *self.keyed.write().unwrap_or_else(PoisonError::into_inner) = keyed;
        Ok(())
    }

    /// The id of this device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.keyed().own
    }

    fn keyed(&self) -> Keyed {
        // Nothing panics while it writes; and what is there is whole.
        self.keyed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes a link to whatever device answers at an address. Which one that is, only
    /// [`Link::peer`] tells. An IPv6 scope id in the address is heeded.
    ///
    /// # Errors
    /// [`LinkError::Refused`], [`LinkError::Timeout`], [`LinkError::Cut`] if there is nobody, or
    /// nobody who answers; [`LinkError::NotKinfold`], [`LinkError::BadKey`] if it is somebody else;
    /// [`LinkError::Own`] if it is this very device.
    pub async fn dial(&self, addr: SocketAddr) -> Result<Link, LinkError> {
        let keyed = self.keyed();
        self.connect(addr, keyed.own, &keyed.connector).await
    }

    /// As [`Endpoint::dial`], for a further connection that is to belong to a link: the other end takes it
    /// for nothing else.
    ///
    /// # Errors
    /// As [`Endpoint::dial`]; [`LinkError::NotKinfold`] also from an end that knows no strands, and where
    /// this end has none.
    pub async fn dial_strand(&self, addr: SocketAddr) -> Result<Link, LinkError> {
        let keyed = self.keyed();
        match &keyed.strands {
            Some(strands) => self.connect(addr, keyed.own, strands).await,
            None => Err(LinkError::NotKinfold("its links have no strands".to_owned())),
        }
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        own: DeviceId,
        connector: &TlsConnector,
    ) -> Result<Link, LinkError> {
        let began = Instant::now();
        let connected = within(self.limits.connect_timeout, TcpStream::connect(addr)).await?;
        let stream = connected.map_err(LinkError::Refused)?;
        let connecting = began.elapsed();
        // A port of our own range, dialled while nobody listens, may connect to itself.
        if let (Ok(here), Ok(there)) = (stream.local_addr(), stream.peer_addr())
            && same_place(here, there)
        {
            return Err(LinkError::Own);
        }
        socket::tune(&stream).map_err(LinkError::io)?;
        let name = ServerName::from(addr.ip());
        let stream = ReadAhead::new(Carrier::Tcp(stream));
        let began = Instant::now();
        let handshake = connector.connect(name, stream);
        let stream = within(self.limits.handshake_timeout, handshake).await?;
        // Each took one round trip at least, and as much longer as a busy machine made it.
        let round_trip = connecting.min(began.elapsed());
        let mut link =
            self.finish(own, stream.map_err(LinkError::handshake)?.into(), addr, true)?;
        link.set_round_trip(round_trip);
        Ok(link)
    }

    /// Makes a link over a stream that somebody else carries, as its TLS client or its server. Nobody but the two
    /// ends reads it; who carries it can delay it and break it off.
    ///
    /// # Errors
    /// As [`Endpoint::dial`].
    pub async fn through(
        &self,
        stream: Box<dyn Through>,
        as_client: bool,
    ) -> Result<Link, LinkError> {
        let keyed = self.keyed();
        let stream = ReadAhead::new(Carrier::Through(stream));
        let limit = self.limits.handshake_timeout;
        let stream: TlsStream<_> = match as_client {
            true => {
                let name = ServerName::from(NOWHERE.ip());
                within(limit, keyed.connector.connect(name, stream)).await?.map(Into::into)
            }
            false => within(limit, keyed.acceptor.accept(stream)).await?.map(Into::into),
        }
        .map_err(LinkError::handshake)?;
        self.finish(keyed.own, stream, NOWHERE, as_client)
    }

    /// Does the handshake on a connection that came in.
    pub(crate) async fn answer(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
    ) -> Result<Link, LinkError> {
        socket::tune(&stream).map_err(LinkError::io)?;
        let keyed = self.keyed();
        let began = Instant::now();
        let handshake = keyed.acceptor.accept(ReadAhead::new(Carrier::Tcp(stream)));
        let stream = within(self.limits.handshake_timeout, handshake).await?;
        let round_trip = began.elapsed();
        let stream = stream.map_err(LinkError::handshake)?.into();
        let mut link = self.finish(keyed.own, stream, addr, false)?;
        link.set_round_trip(round_trip);
        Ok(link)
    }

    fn finish(
        &self,
        own: DeviceId,
        stream: TlsStream<ReadAhead<Carrier>>,
        addr: SocketAddr,
        dialled: bool,
    ) -> Result<Link, LinkError> {
        let (_, connection) = stream.get_ref();
        let agreed = connection.alpn_protocol();
        let strand = agreed.is_some() && agreed == self.protocol.strand_alpn();
        // What somebody else carries has one connection.
        if (!strand && agreed != Some(self.protocol.alpn())) || (strand && addr == NOWHERE) {
            return Err(LinkError::NotKinfold("it did not agree on a protocol".to_owned()));
        }
        let Some([key]) = connection.peer_certificates() else {
            return Err(LinkError::BadKey("it showed none".to_owned()));
        };
        let peer = tls::device_of(key).map_err(|error| LinkError::BadKey(error.to_string()))?;
        if peer == own {
            return Err(LinkError::Own);
        }
        Link::new(stream, peer, addr, dialled, strand)
    }
}

/// Waits for something, but not for longer than this.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, LinkError> {
    let expired = |_| LinkError::Timeout {
        seconds: limit.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
    };
    timeout(limit, future).await.map_err(expired)
}

#[cfg(test)]
mod tests;

//! Where others are: places given by hand, and dialling what was found.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use link::{Endpoint, Link, LinkError};
use tokio::{net::lookup_host, task::JoinSet, time::timeout};

use super::candidates::lasts;
use crate::connecto::PORT;

/// Head start of one address before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The same before an address that holds on one cable only: ssh will be given the one that is used.
const STAGGER_LAST: Duration = Duration::from_millis(1500);
/// Addresses tried of one place.
const MAX_ADDRESSES: usize = 16;
/// How long resolving a name may take.
const RESOLVING: Duration = Duration::from_secs(10);

/// A host, and a port on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    host: String,
    port: u16,
}

/// A text is no place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write HOST, HOST:PORT, 10.0.2.7, 10.0.2.7:8099 or [fe80::1%eth0]:8099")]
pub struct AddressError;

impl Place {
    /// The addresses behind the name.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let found = timeout(RESOLVING, lookup_host((bare, self.port))).await;
        let found = found.map_err(|_| format!("{self}: no answer to where that is"))?;
        let addrs: Vec<_> = found.map_err(|error| format!("{self}: {error}"))?.collect();
        if addrs.is_empty() {
            Err(format!("{self}: the name leads to no address"))
        } else {
            Ok(addrs)
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(addr: SocketAddr) -> Self {
        let host = match addr {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            addr => addr.ip().to_string(),
        };
        Self { host, port: addr.port() }
    }
}

impl FromStr for Place {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let plain = text.split_once('%').map_or(text, |(addr, _)| addr);
        let (host, port) = if plain.parse::<IpAddr>().is_ok() {
            (text, PORT)
        } else if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(AddressError)?;
            let port = match after.strip_prefix(':') {
                Some(port) => number(port)?,
                None if after.is_empty() => PORT,
                None => return Err(AddressError),
            };
            (host, port)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, number(port)?),
                None => (text, PORT),
            }
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
        if host.is_empty() || host.len() > 255 || host.starts_with('-') || !host.chars().all(fits) {
            return Err(AddressError);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

fn number(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(AddressError)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The first link that any of the addresses gives; the others are dropped.
pub(super) async fn first(
    endpoint: &Arc<Endpoint>,
    addrs: Vec<SocketAddr>,
) -> Result<Link, LinkError> {
    let mut addrs = addrs;
    addrs.truncate(MAX_ADDRESSES);
    let mut rest = addrs.into_iter();
    let mut tries = JoinSet::new();
    let mut failure = LinkError::Timeout { seconds: 0 };
    loop {
        if let Some(addr) = rest.next() {
            let endpoint = Arc::clone(endpoint);
            tries.spawn(async move { endpoint.dial(addr).await });
        } else if tries.is_empty() {
            return Err(failure);
        }
        let ended = match rest.as_slice().first() {
            None => tries.join_next().await,
            Some(next) => {
                let stagger = if lasts(next) { STAGGER } else { STAGGER_LAST };
                match timeout(stagger, tries.join_next()).await {
                    Ok(ended) => ended,
                    Err(_) => continue,
                }
            }
        };
        match ended {
            Some(Ok(Ok(link))) => return Ok(link),
            Some(Ok(Err(LinkError::Own))) => return Err(LinkError::Own),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for (text, shown) in [
            ("desk", "desk:8099"),
            ("desk.local:9000", "desk.local:9000"),
            ("10.0.2.7", "10.0.2.7:8099"),
            ("10.0.2.7:1", "10.0.2.7:1"),
            ("fe80::1%eth0", "[fe80::1%eth0]:8099"),
            ("[fd00::1]", "[fd00::1]:8099"),
            ("[fd00::1]:22", "[fd00::1]:22"),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), shown, "{text}");
            assert_eq!(place.to_string().parse(), Ok(place), "{text}");
        }
        for bad in [
            "", ":1", "a:", "a:0", "a:65536", "a:+1", "a b", "-x", "[fd00::1", "[::1]x", "a/b",
            "a\n",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }
}

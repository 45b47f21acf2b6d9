//! A relay's address: where it listens and by which key it is known, in one string.

use std::{fmt, net::IpAddr, str::FromStr};

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use rustls::pki_types::ServerName;

/// What stands before every address.
const LINK: &str = "kin:relay/";
/// Prefix of a key's text form.
const PREFIX: &str = "kr";
/// Longest host name (RFC 1035).
const MAX_HOST: usize = 253;
/// Longest address: prefix, host in brackets, port, key.
const MAX_ADDRESS: usize = LINK.len() + MAX_HOST + 2 + 6 + 1 + 2 + 1 + 52 + 6;

/// The public half of a relay's own key (Ed25519, 32 bytes), by which clients know it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayKey(pub [u8; 32]);

impl fmt::Display for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, Hrp::parse_unchecked(PREFIX), &self.0)
            .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a relay is and how it is known: `kin:relay/HOST:PORT/kr1…`, or `kin:relay/HOST:PORT` for one that
/// has a certificate which this system trusts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelayAddress {
    host: String,
    port: u16,
    key: Option<RelayKey>,
}

/// Why a text is no relay's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins otherwise, or is far too long.
    #[error("this is no relay's address: one looks like kin:relay/HOST:PORT/kr1…")]
    Unknown,
    /// There is no host in it, or none that could be one.
    #[error("the relay's address has no host that could be one")]
    Host,
    /// There is no port in it, or none that could be one.
    #[error("the relay's address has no port, or 0: it looks like kin:relay/HOST:PORT/kr1…")]
    Port,
    /// The key's checksum does not fit.
    #[error("the key in the relay's address is mistyped or cut short")]
    Key,
}

impl RelayAddress {
    /// An address; `host` is a name or an IP address, without brackets. Without a key the relay must have a
    /// certificate.
    ///
    /// # Errors
    /// If the host or the port cannot be one.
    pub fn new(host: &str, port: u16, key: Option<RelayKey>) -> Result<Self, AddressError> {
        if port == 0 {
            return Err(AddressError::Port);
        }
        let host = match host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => return Err(AddressError::Host),
            Ok(ip) => ip.to_string(),
            Err(_) => {
                let host = host.to_ascii_lowercase();
                let numbers = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                if host.len() > MAX_HOST || numbers || ServerName::try_from(host.as_str()).is_err()
                {
                    return Err(AddressError::Host);
                }
                host
            }
        };
        Ok(Self { host, port, key })
    }

    /// The host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key that it must prove; `None` if it is known by its certificate.
    #[must_use]
    pub fn key(&self) -> Option<RelayKey> {
        self.key
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, key } = self;
        match host.contains(':') {
            true => write!(f, "{LINK}[{host}]:{port}")?,
            false => write!(f, "{LINK}{host}:{port}")?,
        }
        match key {
            Some(key) => write!(f, "/{key}"),
            None => Ok(()),
        }
    }
}

impl FromStr for RelayAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let head = text.get(..LINK.len()).is_some_and(|head| head.eq_ignore_ascii_case(LINK));
        let rest = text.get(LINK.len()..).filter(|_| head && text.len() <= MAX_ADDRESS);
        let rest = rest.ok_or(AddressError::Unknown)?;
        let (place, key) = match rest.split_once('/') {
            Some((place, key)) => (place, Some(read_key(key)?)),
            None => (rest, None),
        };
        let (host, port) = place.rsplit_once(':').ok_or(AddressError::Port)?;
        let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // An IPv6 address has brackets and nothing else does.
        let host = match (plain, host.contains(':')) {
            (Some(ip), _) if ip.contains(':') => ip,
            (None, false) => host,
            _ => return Err(AddressError::Host),
        };
        // Digits alone: a number may have a sign otherwise.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.and_then(|port| port.parse().ok()).ok_or(AddressError::Port)?;
        Self::new(host, port, key)
    }
}

fn read_key(text: &str) -> Result<RelayKey, AddressError> {
    let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| AddressError::Key)?;
    if checked.hrp() != Hrp::parse_unchecked(PREFIX) {
        return Err(AddressError::Key);
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    Ok(RelayKey(bytes.try_into().map_err(|_| AddressError::Key)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_was() {
        for host in ["relay.example.org", "192.0.2.7", "2001:db8::7", "localhost"] {
            for key in [None, Some(RelayKey([7; 32]))] {
                let address = RelayAddress::new(host, 8443, key).unwrap();
                let text = address.to_string();
                assert_eq!(text.parse(), Ok(address.clone()), "{text}");
                assert_eq!(text.to_uppercase().parse(), Ok(address), "{text}");
                assert!(text.len() <= MAX_ADDRESS);
            }
        }
        let shown = RelayAddress::new("2001:db8::7", 443, None).unwrap().to_string();
        assert_eq!(shown, "kin:relay/[2001:db8::7]:443");
    }

    #[test]
    fn attack_14_what_is_no_address_is_a_typed_error() {
        let refused = |text: &str| text.parse::<RelayAddress>().unwrap_err();
        assert_eq!(refused("kt1qqqq"), AddressError::Unknown);
        assert_eq!(refused("kin:pair/kt1qqq"), AddressError::Unknown);
        assert_eq!(refused(""), AddressError::Unknown);
        assert_eq!(refused(&format!("kin:relay/{}:1", "a".repeat(50_000))), AddressError::Unknown);
        assert_eq!(refused("kin:relay/host"), AddressError::Port);
        for port in ["", "0", "+1", "65536", "x"] {
            assert_eq!(refused(&format!("kin:relay/host:{port}")), AddressError::Port);
        }
        for host in
            ["", "a b", "2001:db8::7", "[host]", "[1.2.3.4]", "0.0.0.0", "[::]", "1.2.3", "a\n"]
        {
            assert_eq!(refused(&format!("kin:relay/{host}:8443")), AddressError::Host, "{host}");
        }
        let good = RelayAddress::new("host", 1, Some(RelayKey([7; 32]))).unwrap().to_string();
        assert_eq!(refused(&good[..good.len() - 1]), AddressError::Key);
        assert_eq!(refused(&good.replace("kr1", "kd1")), AddressError::Key);
        assert_eq!(refused("kin:relay/host:1/"), AddressError::Key);
    }
}

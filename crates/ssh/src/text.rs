//! Short texts that get into SSH's files: user names, networks.

use std::{fmt, net::IpAddr, str::FromStr};

/// A text is no user name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a user name has 1 to 64 letters, digits and . _ @ + -, and begins with a letter, digit or _"
)]
pub struct UserNameError;

/// The name of a user on some machine, which ssh's configuration can hold as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserName(String);

impl UserName {
    /// Checks a name.
    ///
    /// # Errors
    /// If ssh could take it for anything else than a name.
    pub fn new(name: &str) -> Result<Self, UserNameError> {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
        if !first || name.len() > 64 || !bytes.all(rest) {
            return Err(UserNameError);
        }
        Ok(Self(name.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no network.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a network is written as 10.0.2.0/24 or fd00::/8, with no bits set behind its prefix")]
pub struct CidrError;

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cidr {
    /// Its first address.
    pub addr: IpAddr,
    /// How many bits count.
    pub prefix: u8,
}

impl Cidr {
    /// True if it has this address. One of IPv4 in the form of IPv6 is one of IPv4.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                masked(net.to_bits().into(), self.prefix, 32)
                    == masked(addr.to_bits().into(), self.prefix, 32)
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                masked(net.to_bits(), self.prefix, 128) == masked(addr.to_bits(), self.prefix, 128)
            }
            _ => false,
        }
    }
}

/// The bits of an address of this width that count.
fn masked(bits: u128, prefix: u8, width: u8) -> u128 {
    let drop = u32::from(width.saturating_sub(prefix));
    bits.checked_shr(drop).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                (addr, Some(prefix.parse::<u8>().map_err(|_| CidrError)?))
            }
            Some(_) => return Err(CidrError),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| CidrError)?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        let bits = match addr {
            IpAddr::V4(addr) => addr.to_bits().into(),
            IpAddr::V6(addr) => addr.to_bits(),
        };
        // sshd refuses a whole line for a network with bits behind its prefix.
        let drop = u32::from(width.checked_sub(prefix).ok_or(CidrError)?);
        if masked(bits, prefix, width).checked_shl(drop).unwrap_or(0) != bits {
            return Err(CidrError);
        }
        Ok(Self { addr, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// A name for a comment: letters, digits and `._-`; everything else is a dash. At most 64 bytes.
pub(crate) fn comment(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().take(64).map(|c| if fits(c) { c } else { '-' }).collect()
}

/// The bytes of base64 text.
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u8);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.extend(u8::try_from((bits >> held) & 0xff).ok());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_20_user_names_that_ssh_would_take_for_something_else_are_refused() {
        for good in ["alice", "_apt", "a.b-c", "bob@corp.example", "0x"] {
            assert!(UserName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-l",
            "a b",
            "a\nProxyCommand x",
            "a;b",
            "%u",
            "$USER",
            "a\"",
            "é",
            &"a".repeat(65),
        ] {
            assert_eq!(UserName::new(bad), Err(UserNameError), "{bad}");
        }
    }

    #[test]
    fn networks_are_what_sshd_takes() {
        let net: Cidr = "10.0.2.0/24".parse().expect("is one");
        assert!(net.contains("10.0.2.255".parse().expect("is one")));
        assert!(net.contains("::ffff:10.0.2.1".parse().expect("is one")));
        assert!(!net.contains("10.0.3.0".parse().expect("is one")));
        assert!("0.0.0.0/0".parse::<Cidr>().is_ok_and(|all| all.contains([1, 2, 3, 4].into())));
        assert!(
            "::/0".parse::<Cidr>().is_ok()
                && "::1".parse::<Cidr>().is_ok_and(|one| one.prefix == 128)
        );
        for bad in [
            "",
            "10.0.2.1/24",
            "10.0.2.0/33",
            "fd00::1/8",
            "10.0.2.0/+8",
            "10.0.2.0/",
            "a/8",
            "10.0.2.0/24,x",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_is_read() {
        assert_eq!(unbase64("aGk="), Some(b"hi".to_vec()));
        assert_eq!(unbase64("AAEC/+8="), Some(vec![0, 1, 2, 0xff, 0xef]));
        assert_eq!(unbase64("a b"), None);
    }
}

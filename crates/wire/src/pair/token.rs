//! The pairing token: what one device shows, and another one is given, to open the way between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use identity::{
    DeviceId, InboxId, MAX_TOKEN, Secret, TokenTextError, token_from_text, token_to_link,
    token_to_text,
};

use super::{ALL, WindowId, encode_grant};
use crate::{
    Hash, WireError,
    envelope::Recipient,
    mail::MailAddress,
    membership::{FolderId, GroupId, Role, Scope},
};

/// Most folders that a token lists.
pub const MAX_TOKEN_FOLDERS: usize = 4;
/// Most addresses in a token.
pub const MAX_TOKEN_ADDRESSES: usize = 8;

const VERSION: u8 = 1;
const TERMS_CONTEXT: &str = "kinfold 2026-11 token terms";

/// What a token says of its window, but for the secret and the way there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The device that admits.
    pub device: DeviceId,
    /// Its inbox key.
    pub inbox: InboxId,
    /// The window.
    pub window: WindowId,
    /// The group that the joiner comes to.
    pub group: GroupId,
    /// The role that it gets.
    pub role: Role,
    /// The folders that it gets: all, or at most [`MAX_TOKEN_FOLDERS`].
    pub folders: Scope,
}

/// A pairing token. Whoever has it may ask, once, to be let in.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it says.
    pub terms: Terms,
    /// Proves that somebody has the token; never sent.
    pub secret: Secret<[u8; 16]>,
    /// Where the admitting device may be dialled: at most [`MAX_TOKEN_ADDRESSES`], each [`dialable`].
    pub addresses: Vec<SocketAddr>,
    /// Where letters to the admitting device may be left, in its strangers' lane.
    pub mail: Option<MailAddress>,
}

/// Why a text is no pairing token. Says nothing of the token's contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no text of one.
    #[error(transparent)]
    Text(#[from] TokenTextError),
    /// It is one of a later format.
    #[error("this pairing token was made by a newer kin (format {0}); update kin on this device")]
    Newer(u8),
    /// Its checksum fits, and what is in it does not.
    #[error("this pairing token is malformed: {0}")]
    Malformed(#[from] WireError),
}

/// True if another device may dial this address: no multicast, no address that only this host can read.
#[must_use]
pub fn dialable(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let useless = ip.is_unspecified() || ip.is_multicast() || address.port() == 0;
    !useless
        && match address {
            SocketAddr::V4(v4) => *v4.ip() != Ipv4Addr::BROADCAST,
            // What a link-local address means depends on an interface of the host that reads it.
            SocketAddr::V6(v6) => {
                v6.scope_id() == 0
                    && v6.flowinfo() == 0
                    && !v6.ip().is_unicast_link_local()
                    && v6.ip().to_ipv4_mapped().is_none()
            }
        }
}

impl Token {
    /// A token for these terms, with those addresses that are any use, the first ones of too many.
    #[must_use]
    pub fn new(
        terms: Terms,
        secret: Secret<[u8; 16]>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let addresses = addresses.into_iter().filter(dialable).take(MAX_TOKEN_ADDRESSES).collect();
        Self { terms, secret, addresses, mail: None }
    }

    /// The same, with a mailbox, for which addresses make room if they must.
    #[must_use]
    pub fn with_mail(mut self, mail: Option<&MailAddress>) -> Self {
        self.mail = mail.map(MailAddress::for_strangers);
        while self.encode().is_err() && self.mail.is_some() {
            if self.addresses.pop().is_none() {
                self.mail = None;
            }
        }
        self
    }

    /// The text form, `kt1…`.
    ///
    /// # Errors
    /// If it breaks a bound.
    pub fn to_text(&self) -> Result<Secret<String>, TokenError> {
        Ok(token_to_text(self.encode()?.expose())?)
    }

    /// The link, `kin:pair/kt1…`.
    ///
    /// # Errors
    /// If it breaks a bound.
    pub fn to_link(&self) -> Result<Secret<String>, TokenError> {
        Ok(token_to_link(self.encode()?.expose())?)
    }

    /// Reads the text form or the link.
    ///
    /// # Errors
    /// Says what the text is instead, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Self::decode(token_from_text(text)?.expose())
    }

    /// The bytes behind the text form.
    ///
    /// # Errors
    /// If it breaks a bound.
    pub fn encode(&self) -> Result<Secret<Vec<u8>>, WireError> {
        // Large enough not to be moved, which would leave a copy of the secret behind.
        let mut out = Vec::with_capacity(MAX_TOKEN);
        out.push(VERSION);
        self.terms.encode(&mut out);
        out.extend_from_slice(self.secret.expose());
        encode_addresses(&self.addresses, &mut out);
        match &self.mail {
            None => out.push(0),
            Some(mail) => {
                let mail = mail.for_strangers().encode()?;
                let len = u16::try_from(mail.len()).unwrap_or(u16::MAX);
                out.push(1);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(&mail);
            }
        }
        if out.len() > MAX_TOKEN {
            return Err(WireError::field("token", "too long"));
        }
        let out = Secret::new(out);
        // What this device shows is held to what it would take.
        Self::decode(out.expose()).map_err(|error| match error {
            TokenError::Malformed(error) => error,
            TokenError::Text(_) | TokenError::Newer(_) => WireError::field("version", "newer"),
        })?;
        Ok(out)
    }

    /// Reads the bytes behind the text form.
    ///
    /// # Errors
    /// [`TokenError::Newer`] or [`TokenError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let mut reader = Reader(bytes);
        match reader.byte("version")? {
            VERSION => {}
            0 => return Err(WireError::field("version", "zero").into()),
            newer => return Err(TokenError::Newer(newer)),
        }
        let terms = Terms::decode(&mut reader)?;
        let secret = Secret::new(reader.take("secret")?);
        let addresses = decode_addresses(&mut reader)?;
        let mail = match reader.byte("relay")? {
            0 => None,
            1 => {
                let len = usize::from(u16::from_be_bytes(reader.take("relay")?));
                let bytes = reader.rest();
                if bytes.len() != len {
                    return Err(
                        WireError::field("relay", "cut short, or something follows it").into()
                    );
                }
                let mail = MailAddress::decode(bytes)?;
                if mail.token.is_some() {
                    return Err(WireError::field("relay", "of the members' lane").into());
                }
                Some(mail)
            }
            _ => return Err(WireError::field("relay", "unknown to this version").into()),
        };
        reader.end()?;
        Ok(Self { terms, secret, addresses, mail })
    }
}

impl Terms {
    /// To whom a joiner's letters go.
    #[must_use]
    pub fn admitter(&self) -> Recipient {
        Recipient { device: self.device, inbox: self.inbox }
    }

    /// What both sides must read alike in a token.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut bytes = vec![VERSION];
        self.encode(&mut bytes);
        Hash::derived(TERMS_CONTEXT, &[&bytes])
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.device.0);
        out.extend_from_slice(&self.inbox.0);
        out.extend_from_slice(&self.window.0);
        out.extend_from_slice(&self.group.0);
        encode_grant(self.role, &self.folders, out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let device = DeviceId(reader.take("device")?);
        let inbox = InboxId(reader.take("inbox")?);
        let window = WindowId(reader.take("window")?);
        let group = GroupId(reader.take("group")?);
        if inbox.0 == [0; 32] || group.0 == [0; 32] {
            return Err(WireError::field("inbox, group", "all zero"));
        }
        let role = Role::from_number(reader.byte("role")?)?;
        let folders = match reader.byte("folders")? {
            ALL => Scope::All,
            count if usize::from(count) > MAX_TOKEN_FOLDERS => {
                return Err(WireError::field("folders", "too many"));
            }
            count => {
                let folders = (0..count).map(|_| reader.take("folders").map(FolderId));
                let folders = folders.collect::<Result<Vec<_>, _>>()?;
                if !folders.is_sorted_by(|a, b| a < b) {
                    return Err(WireError::field("folders", "unsorted, or one comes twice"));
                }
                Scope::List(folders)
            }
        };
        Ok(Self { device, inbox, window, group, role, folders })
    }
}

pub(super) fn encode_addresses(addresses: &[SocketAddr], out: &mut Vec<u8>) {
    out.push(u8::try_from(addresses.len()).unwrap_or(u8::MAX));
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&address.port().to_be_bytes());
    }
}

pub(super) fn decode_addresses(reader: &mut Reader<'_>) -> Result<Vec<SocketAddr>, WireError> {
    let count = usize::from(reader.byte("addresses")?);
    if count > MAX_TOKEN_ADDRESSES {
        return Err(WireError::field("addresses", "too many"));
    }
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        let ip: IpAddr = match reader.byte("addresses")? {
            4 => Ipv4Addr::from(reader.take::<4>("addresses")?).into(),
            6 => Ipv6Addr::from(reader.take::<16>("addresses")?).into(),
            _ => return Err(WireError::field("addresses", "of a kind that is not used")),
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(reader.take("addresses")?));
        if !dialable(&address) {
            return Err(WireError::field("addresses", "not one to dial"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// What is left of some bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WireError> {
        let taken = self.0.split_first_chunk();
        let (taken, rest) = taken.ok_or_else(|| WireError::field(field, "cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.take(field).map(|[byte]| byte)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(WireError::field("end", "something follows it")),
        }
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

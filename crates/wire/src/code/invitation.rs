//! What a code opens: who issued it, for what, and where the issuer is found. Sealed under the code, signed by
//! the issuer, padded so that its size says little (rule T16).

use std::net::SocketAddr;

use bytes::Bytes;
use identity::{
    DeviceId, DeviceKey, InboxId, Secret,
    locked::{NONCE_LEN, lock, unlock},
};
use prost::Message as _;

use super::{Code, CodeKeys, VERSION};
use crate::{
    Hash, WireError,
    envelope::Recipient,
    mail::MailAddress,
    membership::{FolderId, GroupId, Role},
    pair::{MAX_TOKEN_ADDRESSES, dialable},
    session::Name,
};

/// The sizes a sealed invitation may have, in bytes.
const SIZES: [usize; 2] = [1 << 10, 4 << 10];
/// The largest of them.
pub const MAX_INVITATION: usize = SIZES[1];
/// Most mailboxes in one.
const MAX_MAIL: usize = 4;
/// Version, nonce, the length of what is signed, its signature, and the cipher's tag.
const OVERHEAD: usize = 1 + NONCE_LEN + 4 + 64 + 16;
const CONTEXT: &str = "kinfold 2026-11 code invitation";

/// What the holder of a code is told before it says yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Who issued the code, and admits.
    pub issuer: DeviceId,
    /// Its inbox key.
    pub inbox: InboxId,
    /// What it calls itself.
    pub issuer_name: Name,
    /// The group.
    pub group: GroupId,
    /// What the issuer calls it.
    pub group_name: Name,
    /// The folder, which is all that the holder gets (rule T14).
    pub folder: FolderId,
    /// What it is called.
    pub folder_name: Name,
    /// The role that the holder gets.
    pub role: Role,
    /// When the code ends, in seconds since 1970.
    pub expires: i64,
    /// Where the issuer may be dialled: at most 8, each of use to others.
    pub addresses: Vec<SocketAddr>,
    /// Where letters to the issuer may be left, in its strangers' lane: at most 4.
    pub mail: Vec<MailAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbInvitation {
    #[prost(bytes = "bytes", tag = "1")]
    issuer: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(string, tag = "3")]
    issuer_name: String,
    #[prost(bytes = "bytes", tag = "4")]
    group: Bytes,
    #[prost(string, tag = "5")]
    group_name: String,
    #[prost(bytes = "bytes", tag = "6")]
    folder: Bytes,
    #[prost(string, tag = "7")]
    folder_name: String,
    #[prost(uint32, tag = "8")]
    role: u32,
    #[prost(int64, tag = "9")]
    expires: i64,
    #[prost(string, repeated, tag = "10")]
    addresses: Vec<String>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    mail: Vec<Bytes>,
}

impl Invitation {
    /// To whom a holder's letters go.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient { device: self.issuer, inbox: self.inbox }
    }

    /// Signs and seals it, with a nonce of random bytes that are fresh each time. Addresses that are of no
    /// use to others, and more than there may be, are left out.
    ///
    /// # Errors
    /// If the key is not the issuer's, or a bound is broken.
    pub fn seal(
        &self,
        keys: &CodeKeys,
        key: &DeviceKey,
        nonce: &[u8; NONCE_LEN],
    ) -> Result<Bytes, WireError> {
        if key.id() != self.issuer {
            return Err(WireError::field("issuer", "not this key's"));
        }
        let body = self.encode()?;
        let signature = key.sign(&digest(keys, &body).0);
        let Some(size) = SIZES.into_iter().find(|size| *size >= OVERHEAD + body.len()) else {
            return Err(WireError::field("invitation", "too long"));
        };
        let mut contents = Vec::with_capacity(size);
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        contents.extend_from_slice(&len.to_be_bytes());
        contents.extend_from_slice(&body);
        contents.extend_from_slice(&signature);
        contents.resize(size - OVERHEAD + 4 + 64, 0);
        let contents = Secret::new(contents);
        let locked = lock(&keys.seal, nonce, &aad(keys), contents.expose())
            .map_err(|_| WireError::field("invitation", "too long"))?;
        let mut sealed = Vec::with_capacity(size);
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(&locked);
        Ok(sealed.into())
    }

    /// Opens one. It is the code's issuer's, whoever brought it, or it is refused.
    ///
    /// # Errors
    /// If it is sealed under another code, was changed, is another device's, or breaks a bound.
    pub fn open(sealed: &[u8], code: &Code) -> Result<Self, WireError> {
        let keys = code.keys();
        let cut = || WireError::field("invitation", "cut short");
        if !SIZES.contains(&sealed.len()) {
            return Err(WireError::field("invitation", "none of the sizes there are"));
        }
        let (version, rest) = sealed.split_first().ok_or_else(cut)?;
        if *version != VERSION {
            return Err(WireError::field("version", "of a newer kin"));
        }
        let (nonce, locked) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(cut)?;
        let contents = unlock(&keys.seal, nonce, &aad(&keys), locked).map_err(|_| {
            WireError::field("invitation", "not sealed under this code, or changed")
        })?;
        let (len, rest) = contents.expose().split_first_chunk().ok_or_else(cut)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let (body, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        let (signature, padding) = rest.split_first_chunk::<64>().ok_or_else(cut)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(WireError::field("padding", "not zero"));
        }
        let invitation = Self::decode(body)?;
        if !code.is_issued_by(&invitation.issuer) {
            return Err(WireError::field("issuer", "not the device that the code names"));
        }
        if !invitation.issuer.verify(&digest(&keys, body).0, signature) {
            return Err(WireError::field("signature", "not the issuer's"));
        }
        Ok(invitation)
    }

    fn encode(&self) -> Result<Vec<u8>, WireError> {
        let copied = Bytes::copy_from_slice;
        let addresses = self.addresses.iter().filter(|address| dialable(address));
        let mail = self.mail.iter().take(MAX_MAIL).map(|mail| mail.for_strangers().encode());
        let body = PbInvitation {
            issuer: copied(&self.issuer.0),
            inbox: copied(&self.inbox.0),
            issuer_name: self.issuer_name.as_str().to_owned(),
            group: copied(&self.group.0),
            group_name: self.group_name.as_str().to_owned(),
            folder: copied(&self.folder.0),
            folder_name: self.folder_name.as_str().to_owned(),
            role: self.role.number().into(),
            expires: self.expires,
            addresses: addresses.take(MAX_TOKEN_ADDRESSES).map(ToString::to_string).collect(),
            mail: mail.map(|mail| mail.map(Bytes::from)).collect::<Result<_, _>>()?,
        }
        .encode_to_vec();
        // What this device seals is held to what it would take.
        Self::decode(&body)?;
        Ok(body)
    }

    fn decode(body: &[u8]) -> Result<Self, WireError> {
        let pb = PbInvitation::decode(body)?;
        if pb.addresses.len() > MAX_TOKEN_ADDRESSES || pb.mail.len() > MAX_MAIL {
            return Err(WireError::field("addresses, mail", "too many"));
        }
        let inbox = InboxId(exactly(&pb.inbox, "inbox")?);
        let group = GroupId(exactly(&pb.group, "group")?);
        if inbox.0 == [0; 32] || group.0 == [0; 32] {
            return Err(WireError::field("inbox, group", "all zero"));
        }
        let mut addresses = Vec::with_capacity(pb.addresses.len());
        for text in &pb.addresses {
            let address: Option<SocketAddr> = text.parse().ok();
            let address = address.filter(dialable).filter(|address| address.to_string() == *text);
            addresses.push(address.ok_or(WireError::field("addresses", "not one to dial"))?);
        }
        let mut mail = Vec::with_capacity(pb.mail.len());
        for bytes in &pb.mail {
            let address = MailAddress::decode(bytes)?;
            if address.token.is_some() {
                return Err(WireError::field("mail", "of the members' lane"));
            }
            mail.push(address);
        }
        let role = u8::try_from(pb.role).map_err(|_| WireError::field("role", "unknown"))?;
        let invitation = Self {
            issuer: DeviceId(exactly(&pb.issuer, "issuer")?),
            inbox,
            issuer_name: Name::new(&pb.issuer_name)?,
            group,
            group_name: Name::new(&pb.group_name)?,
            folder: FolderId(exactly(&pb.folder, "folder")?),
            folder_name: Name::new(&pb.folder_name)?,
            role: Role::from_number(role)?,
            expires: pb.expires,
            addresses,
            mail,
        };
        if pb.encode_to_vec() != body {
            return Err(WireError::field("invitation", "not in its one form"));
        }
        Ok(invitation)
    }
}

fn digest(keys: &CodeKeys, body: &[u8]) -> Hash {
    Hash::derived(CONTEXT, &[&keys.lookup.0, body])
}

fn aad(keys: &CodeKeys) -> [u8; 33] {
    let mut aad = [VERSION; 33];
    aad[..32].copy_from_slice(&keys.lookup.0);
    aad
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}

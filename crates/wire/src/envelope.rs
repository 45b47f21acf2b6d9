//! Sealed envelopes: one letter for one inbox key, padded to a size that says little.
//!
//! The same envelope may travel over a link between the two devices or wait at a relay, which sees the
//! inbox key it is for and a size out of four. Inside is a [`Letter`], signed by its author for this one
//! recipient (rule T21); [`Letter::open`] is the only way in, and what it returns was written by the author
//! it names. What letters of each kind say is for the module that has them ([`crate::pair`]); nothing here
//! trusts anybody.
//!
//! Handlers must take it that a letter comes late, twice, or never.

use bytes::Bytes;
use identity::{
    DeviceId, DeviceKey, InboxId, InboxKey, Secret,
    seal::{ENCAPSULATED_LEN, TAG_LEN, seal},
};
use prost::Message as _;

use crate::{Hash, WireError, mail::MailAddress, membership::GroupId};

/// The version of envelopes and letters that this code speaks.
pub const VERSION: u8 = 1;
/// The sizes an envelope may have, in bytes: the smallest one is taken that its letter fits.
pub const SIZES: [usize; 4] = [1 << 10, 4 << 10, 16 << 10, 64 << 10];

/// Version and recipient, which anybody may read.
const OPEN_LEN: usize = 1 + 32;
/// How long the letter is, in front of it.
const LENGTH_LEN: usize = 4;
/// What an envelope has besides the letter and its padding.
const OVERHEAD: usize = OPEN_LEN + ENCAPSULATED_LEN + LENGTH_LEN + TAG_LEN;
/// Longest body of a letter: the rest of a letter has 155 bytes at most.
pub const MAX_BODY: usize = SIZES[3] - OVERHEAD - 155;

const INFO: &[u8] = b"kinfold 2026-11 sealed envelope";
const LETTER_CONTEXT: &str = "kinfold 2026-11 letter";
const REPLY_CONTEXT: &str = "kinfold 2026-11 letter with reply";

/// To whom a letter goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Recipient {
    /// The device.
    pub device: DeviceId,
    /// Its inbox key.
    pub inbox: InboxId,
}

/// What one device says to another in an envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Who says it and signs.
    pub author: DeviceId,
    /// The group that it is about, if any.
    pub group: Option<GroupId>,
    /// What kind of message the body is: numbers of [`crate::pair::Message::kind`].
    pub kind: u32,
    /// At least 1. An author counts its letters to each recipient.
    pub sequence: u64,
    /// The message, at most [`MAX_BODY`] bytes.
    pub body: Bytes,
    /// Where an answer may be left, if the letter goes by a relay.
    pub reply: Option<MailAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbLetter {
    #[prost(bytes = "bytes", tag = "1")]
    author: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    group: Bytes,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(uint64, tag = "4")]
    sequence: u64,
    #[prost(bytes = "bytes", tag = "5")]
    body: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    signature: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    reply: Bytes,
}

impl Letter {
    /// Signs the letter and seals it. The bytes differ each time.
    ///
    /// # Errors
    /// If the key is not the author's, the body is too long, or the recipient's inbox key is none.
    pub fn seal(&self, key: &DeviceKey, to: &Recipient) -> Result<Bytes, WireError> {
        if key.id() != self.author {
            return Err(WireError::field("author", "not this key's"));
        }
        let letter = Secret::new(self.signed(key, to)?);
        let needed = OVERHEAD + letter.expose().len();
        let Some(size) = SIZES.into_iter().find(|size| *size >= needed) else {
            return Err(WireError::field("body", "too long"));
        };
        let mut contents = Vec::with_capacity(size);
        let len = u32::try_from(letter.expose().len()).unwrap_or(u32::MAX);
        contents.extend_from_slice(&len.to_be_bytes());
        contents.extend_from_slice(letter.expose());
        contents.resize(size - OVERHEAD + LENGTH_LEN, 0);
        let contents = Secret::new(contents);
        let mut envelope = Vec::with_capacity(size);
        envelope.push(VERSION);
        envelope.extend_from_slice(&to.inbox.0);
        let sealed = seal(&to.inbox, INFO, &envelope, contents.expose())
            .map_err(|_| WireError::field("inbox", "nothing can be sealed to it"))?;
        envelope.extend_from_slice(&sealed.encapsulated);
        envelope.extend_from_slice(&sealed.ciphertext);
        Ok(envelope.into())
    }

    fn signed(&self, key: &DeviceKey, to: &Recipient) -> Result<Vec<u8>, WireError> {
        let signature = key.sign(&self.digest(to)?.0);
        let bytes = self.encode(&signature, &self.reply()?);
        // What this device sends is held to what it would take in.
        decode(&bytes)?;
        Ok(bytes)
    }

    /// Opens an envelope and checks the signature of what is in it. `link` is the device at the other end
    /// of the link that it came over, if it came over one from its author.
    ///
    /// # Errors
    /// If it is not for `me`, is damaged, was written for anybody else, or by another device than the one
    /// at the other end (attacks.md 13).
    pub fn open(
        envelope: &[u8],
        me: &Recipient,
        inbox: &InboxKey,
        link: Option<DeviceId>,
    ) -> Result<Self, WireError> {
        if recipient(envelope)? != inbox.id() || me.inbox != inbox.id() {
            return Err(WireError::field("inbox", "not this device's"));
        }
        let cut = || WireError::field("envelope", "cut short");
        let (open, sealed) = envelope.split_at_checked(OPEN_LEN).ok_or_else(cut)?;
        let (encapsulated, ciphertext) =
            sealed.split_first_chunk::<ENCAPSULATED_LEN>().ok_or_else(cut)?;
        let contents = inbox
            .open(encapsulated, INFO, open, ciphertext)
            .map_err(|_| WireError::field("envelope", "not sealed to this key, or changed"))?;
        let (len, rest) = contents.expose().split_first_chunk().ok_or_else(cut)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let (bytes, padding) = rest.split_at_checked(len).ok_or_else(cut)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(WireError::field("padding", "not zero"));
        }
        let (letter, signature) = decode(bytes)?;
        if link.is_some_and(|other| other != letter.author) {
            return Err(WireError::field("author", "not the device at the other end"));
        }
        if !letter.author.verify(&letter.digest(me)?.0, &signature) {
            return Err(WireError::field("signature", "not the author's, or not for this device"));
        }
        Ok(letter)
    }

    /// What is signed (rule T21): all parts but the last have a fixed length.
    fn digest(&self, to: &Recipient) -> Result<Hash, WireError> {
        let reply = self.reply()?;
        let replied = Hash::of(&reply);
        let parts: [&[u8]; 8] = [
            &[VERSION],
            &self.author.0,
            &to.device.0,
            &to.inbox.0,
            &self.group.map_or([0; 32], |group| group.0),
            &self.kind.to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &self.body,
        ];
        Ok(match reply.is_empty() {
            true => Hash::derived(LETTER_CONTEXT, &parts),
            false => Hash::derived(REPLY_CONTEXT, &[&[&replied.0[..]], &parts[..]].concat()),
        })
    }

    fn reply(&self) -> Result<Vec<u8>, WireError> {
        self.reply.as_ref().map_or(Ok(Vec::new()), MailAddress::encode)
    }

    fn encode(&self, signature: &[u8; 64], reply: &[u8]) -> Vec<u8> {
        let copied = Bytes::copy_from_slice;
        PbLetter {
            author: copied(&self.author.0),
            group: self.group.map(|group| copied(&group.0)).unwrap_or_default(),
            kind: self.kind,
            sequence: self.sequence,
            body: self.body.clone(),
            signature: copied(signature),
            reply: copied(reply),
        }
        .encode_to_vec()
    }
}

/// Which inbox key an envelope is for: what a relay can read of it.
///
/// # Errors
/// If its version is not known or its size is none of [`SIZES`].
pub fn recipient(envelope: &[u8]) -> Result<InboxId, WireError> {
    match envelope.first() {
        Some(&VERSION) => {}
        Some(0) | None => return Err(WireError::field("version", "none")),
        Some(_) => return Err(WireError::field("version", "of a newer kin")),
    }
    if !SIZES.contains(&envelope.len()) {
        return Err(WireError::field("envelope", "none of the sizes there are"));
    }
    let inbox = envelope.get(1..OPEN_LEN).and_then(|bytes| bytes.try_into().ok());
    inbox.map(InboxId).ok_or_else(|| WireError::field("envelope", "cut short"))
}

fn decode(bytes: &[u8]) -> Result<(Letter, [u8; 64]), WireError> {
    let pb = PbLetter::decode(bytes)?;
    let exactly = |bytes: &Bytes, field| {
        bytes[..].try_into().map_err(|_| WireError::field(field, "wrong length"))
    };
    let group = match &pb.group {
        none if none.is_empty() => None,
        some => match exactly(some, "group")? {
            zero if zero == [0; 32] => return Err(WireError::field("group", "all zero")),
            group => Some(GroupId(group)),
        },
    };
    let letter = Letter {
        author: DeviceId(exactly(&pb.author, "author")?),
        group,
        kind: pb.kind,
        sequence: pb.sequence,
        body: pb.body.clone(),
        reply: match pb.reply.is_empty() {
            true => None,
            false => Some(MailAddress::decode(&pb.reply)?),
        },
    };
    let signature =
        pb.signature[..].try_into().map_err(|_| WireError::field("signature", "wrong length"))?;
    if letter.sequence == 0 {
        return Err(WireError::field("sequence", "zero"));
    }
    if letter.body.len() > MAX_BODY {
        return Err(WireError::field("body", "too long"));
    }
    // A letter has one form: what it could say besides would not be signed.
    if letter.encode(&signature, &pb.reply) != bytes {
        return Err(WireError::field("letter", "not in its one form"));
    }
    Ok((letter, signature))
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;

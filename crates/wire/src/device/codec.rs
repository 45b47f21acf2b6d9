//! The protobuf form of [`super::Message`], and the checks that stand between the two.

use bytes::Bytes;
use identity::InboxId;

use super::{
    Into, MAX_HEADS, MAX_HOST_KEYS, MAX_OPERATIONS_SENT, MAX_SSH_KEY, MAX_SSH_USER, Message, Offer,
    Purpose, SshServer, Tag,
};
use crate::{
    WireError,
    code::{LookupId, MAX_INVITATION},
    frame::MAX_SLOT,
    mail::MAX_CARD,
    membership::{FolderId, GroupId, MAX_OPERATION, OperationId},
    session::Name,
};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PbDevice {
    #[prost(oneof = "PbBody", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")]
    body: Option<PbBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum PbBody {
    #[prost(message, tag = "1")]
    Hello(PbHello),
    #[prost(message, tag = "2")]
    Have(PbHave),
    #[prost(message, tag = "3")]
    Operations(PbOperations),
    #[prost(message, tag = "4")]
    Sent(PbSent),
    #[prost(message, tag = "5")]
    Open(PbOpen),
    #[prost(message, tag = "6")]
    Shut(PbShut),
    #[prost(message, tag = "7")]
    Offer(PbOffer),
    #[prost(bytes = "bytes", tag = "8")]
    Admitted(Bytes),
    #[prost(bytes = "bytes", tag = "9")]
    Envelope(Bytes),
    #[prost(bytes = "bytes", tag = "10")]
    Lookup(Bytes),
    #[prost(bytes = "bytes", tag = "11")]
    Invitation(Bytes),
    #[prost(bytes = "bytes", tag = "12")]
    Card(Bytes),
    #[prost(message, tag = "13")]
    SshKey(PbSshKey),
    #[prost(message, tag = "14")]
    SshOpen(PbSshOpen),
    #[prost(message, tag = "15")]
    NotAdmitted(PbNotAdmitted),
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbNotAdmitted {}

#[derive(Clone, PartialEq, prost::Message)]
struct PbSshKey {
    #[prost(uint32, tag = "1")]
    turn: u32,
    /// Empty: nobody wants to log in.
    #[prost(string, tag = "2")]
    key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbSshOpen {
    #[prost(uint32, tag = "1")]
    turn: u32,
    /// This and what follows is absent if nobody may log in.
    #[prost(string, tag = "2")]
    user: String,
    #[prost(uint32, tag = "3")]
    port: u32,
    #[prost(string, repeated, tag = "4")]
    host_keys: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbHello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(uint32, tag = "3")]
    purpose: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbHave {
    #[prost(bytes = "bytes", tag = "1")]
    tag: Bytes,
    /// Concatenated ids.
    #[prost(bytes = "bytes", tag = "2")]
    heads: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbOperations {
    #[prost(bytes = "bytes", tag = "1")]
    tag: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    operations: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbSent {
    #[prost(bytes = "bytes", tag = "1")]
    tag: Bytes,
    #[prost(bool, tag = "2")]
    member: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbOpen {
    #[prost(uint32, tag = "1")]
    slot: u32,
    #[prost(bytes = "bytes", tag = "2")]
    tag: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    folder: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbShut {
    #[prost(uint32, tag = "1")]
    slot: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbOffer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    inbox: Bytes,
    #[prost(uint32, tag = "3")]
    into: u32,
    #[prost(bytes = "bytes", tag = "4")]
    group: Bytes,
    #[prost(uint32, tag = "5")]
    members: u32,
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(crate) fn encode(message: &Message) -> Bytes {
    prost::Message::encode_to_vec(&out(message)).into()
}

/// The form in which a session message carries it.
pub(crate) fn out(message: &Message) -> PbDevice {
    let body = match message {
        Message::Hello { version, port, purpose } => PbBody::Hello(PbHello {
            version: *version,
            port: (*port).into(),
            purpose: match purpose {
                Purpose::Member => 1,
                Purpose::Pair => 2,
                Purpose::Join => 3,
            },
        }),
        Message::Have { tag, heads } => PbBody::Have(PbHave {
            tag: copied(&tag.0),
            heads: heads.iter().flat_map(|id| id.0).collect(),
        }),
        Message::Operations { tag, operations } => {
            let operations = operations.clone();
            PbBody::Operations(PbOperations { tag: copied(&tag.0), operations })
        }
        Message::Sent { tag, member } => {
            PbBody::Sent(PbSent { tag: copied(&tag.0), member: *member })
        }
        Message::Open { slot, tag, folder } => PbBody::Open(PbOpen {
            slot: (*slot).into(),
            tag: copied(&tag.0),
            folder: copied(&folder.0),
        }),
        Message::Shut { slot } => PbBody::Shut(PbShut { slot: (*slot).into() }),
        Message::Offer(offer) => PbBody::Offer(PbOffer {
            name: offer.name.as_str().to_owned(),
            inbox: copied(&offer.inbox.0),
            into: match offer.into {
                Into::Auto => 1,
                Into::Mine => 2,
                Into::Yours => 3,
            },
            group: offer.group.map(|group| copied(&group.0)).unwrap_or_default(),
            members: offer.members,
        }),
        Message::Admitted { group } => PbBody::Admitted(copied(&group.0)),
        Message::NotAdmitted => PbBody::NotAdmitted(PbNotAdmitted {}),
        Message::Envelope(bytes) => PbBody::Envelope(bytes.clone()),
        Message::Lookup { lookup } => PbBody::Lookup(copied(&lookup.0)),
        Message::Invitation(bytes) => PbBody::Invitation(bytes.clone()),
        Message::Card(bytes) => PbBody::Card(bytes.clone()),
        Message::SshKey { turn, key } => {
            PbBody::SshKey(PbSshKey { turn: *turn, key: key.clone().unwrap_or_default() })
        }
        Message::SshOpen { turn, server: None } => {
            PbBody::SshOpen(PbSshOpen { turn: *turn, ..PbSshOpen::default() })
        }
        Message::SshOpen { turn, server: Some(server) } => PbBody::SshOpen(PbSshOpen {
            turn: *turn,
            user: server.user.clone(),
            port: server.port.into(),
            host_keys: server.host_keys.clone(),
        }),
    };
    PbDevice { body: Some(body) }
}

pub(crate) fn decode(message: PbDevice) -> Result<Message, WireError> {
    Ok(match message.body.ok_or(WireError::field("device", "missing"))? {
        PbBody::Hello(hello) => Message::Hello {
            version: hello.version,
            port: u16::try_from(hello.port).map_err(|_| WireError::field("port", "over 65535"))?,
            purpose: match hello.purpose {
                1 => Purpose::Member,
                2 => Purpose::Pair,
                3 => Purpose::Join,
                _ => return Err(WireError::field("purpose", "unknown")),
            },
        },
        PbBody::Have(have) => Message::Have { tag: tag(&have.tag)?, heads: heads(&have.heads)? },
        PbBody::Operations(PbOperations { tag: bytes, operations }) => {
            if operations.is_empty() || operations.len() > MAX_OPERATIONS_SENT {
                return Err(WireError::field("operations", "none, or too many"));
            }
            if operations.iter().any(|bytes| bytes.len() > MAX_OPERATION) {
                return Err(WireError::field("operations", "one is too large"));
            }
            Message::Operations { tag: tag(&bytes)?, operations }
        }
        PbBody::Sent(sent) => Message::Sent { tag: tag(&sent.tag)?, member: sent.member },
        PbBody::Open(open) => Message::Open {
            slot: slot(open.slot)?,
            tag: tag(&open.tag)?,
            folder: FolderId(exactly(&open.folder, "folder")?),
        },
        PbBody::Shut(shut) => Message::Shut { slot: slot(shut.slot)? },
        PbBody::Offer(offer) => Message::Offer(offer_in(&offer)?),
        PbBody::Admitted(group) => Message::Admitted { group: GroupId(exactly(&group, "group")?) },
        PbBody::NotAdmitted(PbNotAdmitted {}) => Message::NotAdmitted,
        PbBody::Envelope(bytes) => Message::Envelope(bytes),
        PbBody::Lookup(lookup) => Message::Lookup { lookup: LookupId(exactly(&lookup, "lookup")?) },
        PbBody::Invitation(bytes) if bytes.len() > MAX_INVITATION => {
            return Err(WireError::field("invitation", "too long"));
        }
        PbBody::Invitation(bytes) => Message::Invitation(bytes),
        PbBody::Card(bytes) if bytes.len() > MAX_CARD => {
            return Err(WireError::field("card", "too long"));
        }
        PbBody::Card(bytes) => Message::Card(bytes),
        PbBody::SshKey(PbSshKey { turn, key }) => {
            let key = (!key.is_empty()).then(|| ssh_key(key)).transpose()?;
            Message::SshKey { turn, key }
        }
        PbBody::SshOpen(open) => Message::SshOpen { turn: open.turn, server: ssh_open(open)? },
    })
}

fn ssh_key(key: String) -> Result<String, WireError> {
    let fits = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if key.is_empty() || key.len() > MAX_SSH_KEY || !key.bytes().all(fits) {
        return Err(WireError::field("key", "no line of ASCII, or too long"));
    }
    Ok(key)
}

fn ssh_open(open: PbSshOpen) -> Result<Option<SshServer>, WireError> {
    let PbSshOpen { turn: _, user, port, host_keys } = open;
    if user.is_empty() && port == 0 && host_keys.is_empty() {
        return Ok(None);
    }
    let port = u16::try_from(port).ok().filter(|port| *port != 0);
    let port = port.ok_or(WireError::field("port", "none, or over 65535"))?;
    if user.is_empty() || user.len() > MAX_SSH_USER || user.chars().any(char::is_control) {
        return Err(WireError::field("user", "none, too long, or with control characters"));
    }
    if host_keys.is_empty() || host_keys.len() > MAX_HOST_KEYS {
        return Err(WireError::field("host keys", "none, or too many"));
    }
    let host_keys = host_keys.into_iter().map(ssh_key).collect::<Result<_, _>>()?;
    Ok(Some(SshServer { user, port, host_keys }))
}

fn offer_in(offer: &PbOffer) -> Result<Offer, WireError> {
    let inbox = InboxId(exactly(&offer.inbox, "inbox")?);
    if inbox.0 == [0; 32] {
        return Err(WireError::field("inbox", "all zero"));
    }
    let group = match offer.group.len() {
        0 => None,
        _ => Some(GroupId(exactly(&offer.group, "group")?)),
    };
    if group.is_some() != (offer.members > 0) {
        return Err(WireError::field("members", "does not fit the group"));
    }
    Ok(Offer {
        name: Name::new(&offer.name)?,
        inbox,
        into: match offer.into {
            1 => Into::Auto,
            2 => Into::Mine,
            3 => Into::Yours,
            _ => return Err(WireError::field("into", "unknown")),
        },
        group,
        members: offer.members,
    })
}

fn exactly<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::field(field, "wrong length"))
}

fn tag(bytes: &[u8]) -> Result<Tag, WireError> {
    Ok(Tag(exactly(bytes, "tag")?))
}

fn slot(slot: u32) -> Result<u8, WireError> {
    let slot = u8::try_from(slot).ok().filter(|slot| *slot <= MAX_SLOT);
    slot.ok_or(WireError::field("slot", "over its limit"))
}

fn heads(bytes: &[u8]) -> Result<Vec<OperationId>, WireError> {
    if !bytes.len().is_multiple_of(32) || bytes.len() / 32 > MAX_HEADS {
        return Err(WireError::field("heads", "wrong length, or too many"));
    }
    bytes.chunks_exact(32).map(|id| Ok(OperationId(exactly(id, "heads")?))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{frame::MAX_STRANGER_FRAME, session};

    fn message() -> impl Strategy<Value = Message> {
        let id = any::<[u8; 32]>();
        let tag = || any::<[u8; 32]>().prop_map(Tag);
        let into = prop_oneof![Just(Into::Auto), Just(Into::Mine), Just(Into::Yours)];
        let purpose = prop_oneof![Just(Purpose::Member), Just(Purpose::Pair), Just(Purpose::Join)];
        let group = prop::option::of((any::<[u8; 32]>(), 1_u32..));
        let name = "[a-zé日 ]{1,16}".prop_map(|name| Name::new(&name).unwrap());
        prop_oneof![
            (any::<u32>(), any::<u16>(), purpose)
                .prop_map(|(version, port, purpose)| Message::Hello { version, port, purpose }),
            (tag(), vec(any::<[u8; 32]>().prop_map(OperationId), 0..MAX_HEADS))
                .prop_map(|(tag, heads)| Message::Have { tag, heads }),
            (tag(), vec(vec(any::<u8>(), 0..300).prop_map(Bytes::from), 1..20))
                .prop_map(|(tag, operations)| Message::Operations { tag, operations }),
            (tag(), any::<bool>()).prop_map(|(tag, member)| Message::Sent { tag, member }),
            (0..=MAX_SLOT, tag(), any::<[u8; 32]>()).prop_map(|(slot, tag, folder)| {
                Message::Open { slot, tag, folder: FolderId(folder) }
            }),
            (0..=MAX_SLOT).prop_map(|slot| Message::Shut { slot }),
            (name, 1_u8.., into, group).prop_map(|(name, inbox, into, group)| {
                Message::Offer(Offer {
                    name,
                    inbox: InboxId([inbox; 32]),
                    into,
                    group: group.map(|(group, _)| GroupId(group)),
                    members: group.map_or(0, |(_, members)| members),
                })
            }),
            id.prop_map(|group| Message::Admitted { group: GroupId(group) }),
            Just(Message::NotAdmitted),
            vec(any::<u8>(), 0..300).prop_map(|bytes| Message::Envelope(bytes.into())),
            id.prop_map(|lookup| Message::Lookup { lookup: LookupId(lookup) }),
            vec(any::<u8>(), 0..=MAX_INVITATION)
                .prop_map(|bytes| Message::Invitation(bytes.into())),
            (any::<u32>(), prop::option::of("[ -~]{1,3000}"))
                .prop_map(|(turn, key)| Message::SshKey { turn, key }),
            (
                any::<u32>(),
                prop::option::of((
                    "[a-zé日 ]{1,16}",
                    1..=u16::MAX,
                    vec("[ -~]{1,3000}", 1..=MAX_HOST_KEYS)
                ))
            )
                .prop_map(|(turn, server)| {
                    let server =
                        server.map(|(user, port, host_keys)| SshServer { user, port, host_keys });
                    Message::SshOpen { turn, server }
                }),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_fit_a_strangers_frame(message in message()) {
            let message = session::Message::Device(message);
            let bytes = message.encode();
            prop_assert!(bytes.len() <= MAX_STRANGER_FRAME);
            prop_assert_eq!(session::Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn a_damaged_message_is_decoded_or_refused(
            message in message(), at: prop::sample::Index, to: u8,
        ) {
            let mut bytes = session::Message::Device(message).encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = session::Message::decode(&bytes);
        }
    }

    #[test]
    fn attack_13_a_group_has_another_tag_on_each_link() {
        let group = GroupId([7; 32]);
        assert_ne!(Tag::new(&group, &[1; 32]), Tag::new(&group, &[2; 32]));
        assert_ne!(Tag::new(&group, &[1; 32]), Tag::new(&GroupId([8; 32]), &[1; 32]));
    }

    #[test]
    fn bounds_are_kept() {
        let have = |heads: usize| PbDevice {
            body: Some(PbBody::Have(PbHave {
                tag: copied(&[1; 32]),
                heads: vec![0; heads].into(),
            })),
        };
        assert!(decode(have(32 * MAX_HEADS)).is_ok());
        assert!(decode(have(32 * (MAX_HEADS + 1))).is_err());
        assert!(decode(have(31)).is_err());
        let operations = |operations| PbDevice {
            body: Some(PbBody::Operations(PbOperations { tag: copied(&[1; 32]), operations })),
        };
        assert!(decode(operations(Vec::new())).is_err());
        assert!(decode(operations(vec![Bytes::new(); MAX_OPERATIONS_SENT + 1])).is_err());
        assert!(decode(operations(vec![vec![0; MAX_OPERATION + 1].into()])).is_err());
        let offer = PbOffer {
            name: "a".into(),
            inbox: copied(&[1; 32]),
            into: 1,
            group: Bytes::new(),
            members: 0,
        };
        assert!(offer_in(&offer).is_ok());
        assert!(offer_in(&PbOffer { members: 1, ..offer.clone() }).is_err(), "members of nothing");
        assert!(offer_in(&PbOffer { inbox: copied(&[0; 32]), ..offer.clone() }).is_err());
        assert!(offer_in(&PbOffer { into: 0, ..offer.clone() }).is_err());
        assert!(offer_in(&PbOffer { name: "a\nb".into(), ..offer }).is_err());
        let open =
            PbSshOpen { turn: 1, user: "a".into(), port: 22, host_keys: vec!["ssh-x y".into()] };
        assert!(ssh_open(open.clone()).is_ok_and(|open| open.is_some()));
        assert_eq!(ssh_open(PbSshOpen::default()), Ok(None));
        for bad in [
            PbSshOpen { user: String::new(), ..open.clone() },
            PbSshOpen { user: "a\nb".into(), ..open.clone() },
            PbSshOpen { user: "a".repeat(MAX_SSH_USER + 1), ..open.clone() },
            PbSshOpen { port: 0, ..open.clone() },
            PbSshOpen { port: 65_536, ..open.clone() },
            PbSshOpen { host_keys: Vec::new(), ..open.clone() },
            PbSshOpen { host_keys: vec!["k".into(); MAX_HOST_KEYS + 1], ..open.clone() },
            PbSshOpen { host_keys: vec![String::new()], ..open.clone() },
            PbSshOpen { host_keys: vec!["a\nb".into()], ..open.clone() },
            PbSshOpen { host_keys: vec!["k".repeat(MAX_SSH_KEY + 1)], ..open },
        ] {
            assert!(ssh_open(bad.clone()).is_err(), "{bad:?}");
        }
        let key = |text: &str| {
            let key = PbSshKey { turn: 1, key: text.into() };
            decode(PbDevice { body: Some(PbBody::SshKey(key)) })
        };
        assert!(key("").is_ok() && key("ssh-x y").is_ok());
        assert!(key("a\r\nb").is_err() && key("é").is_err());
        assert!(decode(PbDevice { body: None }).is_err());
        let shut = PbShut { slot: 255 };
        assert!(decode(PbDevice { body: Some(PbBody::Shut(shut)) }).is_err());
    }
}

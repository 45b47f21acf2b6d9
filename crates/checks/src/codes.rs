//! Sharing codes, invitations and mail: whatever comes is refused, or is what it says in one form.

use bytes::Bytes;
use identity::{DeviceKey, Secret, code_from_text, code_to_link, code_to_text};
use wire::{
    code::{self, Code, Invitation, SavedCodeJoin},
    mail::{self, Card, MailAddress},
};

/// The text of a code, an invitation, and the messages about codes and by mail.
pub(crate) fn code(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(read) = code_from_text(&text) {
        let again = match &read.relay {
            None => code_to_text(read.bytes.expose()),
            Some(relay) => code_to_link(read.bytes.expose(), Some(relay)),
        };
        let again = code_from_text(again.expose()).expect("what is written is read");
        assert_eq!(again.bytes.expose(), read.bytes.expose());
        assert_eq!(again.relay, read.relay);
    }
    let key = DeviceKey::from_seed(&Secret::new([1; 32])).expect("any seed is a key");
    let secret = Code::new(&Secret::new([2; 16]), &key.id());
    // Sealed by nobody.
    assert!(Invitation::open(data, &secret).is_err());
    // Whatever is read of it is within its bounds.
    let _ = SavedCodeJoin::decode(data);
    let Some((kind, body)) = data.split_first() else { return };
    let (kind, body) = (u32::from(*kind), Bytes::copy_from_slice(body));
    if let Ok(message) = code::Message::decode(kind, &body) {
        assert!(code::Message::has_kind(kind) && message.kind() == kind);
        assert_eq!(message.encode(), body);
    }
    if let Ok(message) = mail::Message::decode(kind, &body) {
        assert!(mail::Message::has_kind(kind) && message.kind() == kind);
        assert_eq!(message.encode(), body);
    }
    if let Ok(address) = MailAddress::decode(&body) {
        assert_eq!(address.encode().expect("it was read").as_slice(), &body[..]);
        let card = Card::sign(&key, u64::from(kind), address).expect("it was read");
        assert_eq!(Card::parse(card.bytes().clone()), Ok(card));
    }
    // Signed by nobody.
    assert!(Card::parse(body).is_err());
}

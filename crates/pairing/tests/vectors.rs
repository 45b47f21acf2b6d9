//! The test vectors of the LAN and the token ceremony in docs/protocol.md are what this code makes.

#[path = "../../wire/tests/document/mod.rs"]
mod document;

use std::collections::BTreeMap;

use document::{hex, printed};
use identity::{DeviceId, DeviceKey, InboxId, InboxKey, Secret};
use pairing::{
    Lan, LanStep, Party, Transcript,
    token::{Card, TokenJoin, TokenWindow, WindowStep},
};
use wire::{
    code::{self, Code, Greeting, Hello, Invitation, Refusal, Wait, Way},
    envelope::Letter,
    mail::MailAddress,
    membership::{FolderId, GroupId, OperationId, Role, Scope},
    pair::{Decline, Message, Terms, Token, WindowId},
    session::{self, Mode, Name},
};

#[test]
fn t3_the_vectors_in_the_document_are_what_the_code_makes() {
    let party = |device, inbox, name: &str, mode| Party {
        device: DeviceId([device; 32]),
        inbox: InboxId([inbox; 32]),
        name: Name::new(name).unwrap(),
        version: 1,
        mode,
    };
    let transcript = Transcript {
        client: party(0x11, 0x12, "laptop", Mode::Ask),
        server: party(0x21, 0x22, "Küche", Mode::Open),
        topic: [0x31; 32],
        exporter: [0x41; 32],
    };
    let mut client = Lan::client(&transcript).unwrap();
    let session::Message::Commit(commitment) = client.commit([0x51; 32]).unwrap() else {
        panic!("a commitment comes first");
    };
    let step = client.handle(&session::Message::Nonce([0x61; 32]), [0; 32]).unwrap();
    let LanStep::SendAndShow(session::Message::Reveal(revealed), sas) = step else {
        panic!("the nonce is revealed next");
    };
    assert_eq!(revealed, [0x51; 32]);
    let made = BTreeMap::from([
        ("lan_commitment".to_owned(), hex(&commitment)),
        ("lan_sas".to_owned(), sas.to_string()),
    ]);
    assert_eq!(printed("vectors-lan"), made);
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Device, inbox and card made of seeds of one byte.
fn device(seed: u8, name: &str) -> (DeviceKey, InboxKey, Card) {
    let key = DeviceKey::from_seed(&Secret::new([seed; 32])).expect("well formed");
    let inbox = InboxKey::from_seed(Secret::new([seed + 0x10; 32])).expect("well formed");
    let card =
        Card { device: key.id(), inbox: inbox.id(), name: Name::new(name).expect("well formed") };
    (key, inbox, card)
}

fn token(admitter: &Card) -> Token {
    let terms = Terms {
        device: admitter.device,
        inbox: admitter.inbox,
        window: WindowId([0x31; 8]),
        group: GroupId([0x32; 32]),
        role: Role::Writer,
        folders: Scope::List(vec![FolderId([0x33; 32])]),
    };
    let addresses = ["192.168.1.20:22000", "[2001:db8::1]:22000"];
    Token::new(terms, Secret::new([0x34; 16]), addresses.map(|it| it.parse().expect("well formed")))
}

#[test]
fn t4_the_token_vectors_in_the_document_are_what_the_code_makes() {
    let (_, _, admitter) = device(1, "desk");
    let (_, _, joiner) = device(2, "Küche");
    let token = token(&admitter);
    let mut join = TokenJoin::start(&token, &joiner, Secret::new([0x51; 32])).unwrap();
    let letter = |message: &Message, author| Letter {
        reply: None,
        author,
        group: Some(GroupId([0x32; 32])),
        kind: message.kind(),
        sequence: 1,
        body: message.encode(),
    };
    let asked = join.say().unwrap().message;
    let Message::Pair(pair) = &asked else { panic!("it asks first") };
    let challenge = Message::Challenge { request: join.id(), nonce: [0x61; 32] };
    join.handle(&letter(&challenge, admitter.device));
    let ready = join.say().unwrap().message;
    let saved = join.save();
    let admitted = Message::Admitted {
        request: join.id(),
        heads: vec![OperationId([0x71; 32]), OperationId([0x72; 32])],
    };
    let declined = Message::Declined { request: join.id(), why: Decline::Full };

    // What the window makes of it is the same.
    let mut window = TokenWindow::open(&token, 0, 1);
    let steps = window.handle(&letter(&asked, joiner.device), [0x61; 32], 0);
    assert!(matches!(&steps[..], [WindowStep::Send(sent)] if sent.message == challenge));
    let steps = window.handle(&letter(&ready, joiner.device), [0; 32], 0);
    assert!(matches!(&steps[..], [WindowStep::Ask(asks)] if Some(asks.sas) == join.sas()));

    let texts = [
        ("token", token.to_text().unwrap().expose().clone()),
        ("token_bytes", hex(token.encode().unwrap().expose())),
        ("terms", hex(&token.terms.digest().0)),
        ("commitment", hex(&pair.commitment)),
        ("mac", hex(&pair.mac)),
        ("pair", hex(&asked.encode())),
        ("request", hex(&join.id().0)),
        ("challenge", hex(&challenge.encode())),
        ("ready", hex(&ready.encode())),
        ("admitted", hex(&admitted.encode())),
        ("declined", hex(&declined.encode())),
        ("token_sas", join.sas().unwrap().to_string()),
        ("kept", hex(saved.encode().expose())),
    ];
    let made: BTreeMap<_, _> = texts.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(printed("vectors-token"), made);
}

/// An envelope differs each time, so the one in the document is opened.
#[test]
fn t21_the_envelope_in_the_document_is_read() {
    let (admitting, inbox, admitter) = device(1, "desk");
    let (joining, _, joiner) = device(2, "Küche");
    let printed = printed("vectors-envelope");
    let envelope = bytes(&printed["envelope"]);
    let token = token(&admitter);
    let join = TokenJoin::start(&token, &joiner, Secret::new([0x51; 32])).unwrap();
    let said = join.say().unwrap();
    let expected = Letter {
        reply: None,
        author: joiner.device,
        group: Some(GroupId([0x32; 32])),
        kind: 1,
        sequence: 1,
        body: said.message.encode(),
    };
    let link = Some(joining.id());
    let opened = Letter::open(&envelope, &admitter.recipient(), &inbox, link);
    assert_eq!(opened, Ok(expected));
    assert_ne!(admitting.id(), joining.id());

    // The same by hand: what stands in front, the encapsulated key, and what is sealed.
    let (open, sealed) = envelope.split_at(33);
    let (encapsulated, ciphertext) = sealed.split_first_chunk::<32>().unwrap();
    let info = b"kinfold 2026-11 sealed envelope";
    let contents = inbox.open(encapsulated, info, open, ciphertext).unwrap();
    let letter = bytes(&printed["letter"]);
    let (len, rest) = contents.expose().split_at(4);
    assert_eq!(len, u32::try_from(letter.len()).unwrap().to_be_bytes());
    assert!(rest.starts_with(&letter) && rest[letter.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn t16_the_code_vectors_in_the_document_are_what_the_code_makes() {
    let (issuing, _, issuer) = device(1, "desk");
    let (_, _, joiner) = device(2, "Küche");
    let code = Code::new(&Secret::new([0x35; 16]), &issuer.device);
    let keys = code.keys();
    let invitation = Invitation {
        issuer: issuer.device,
        inbox: issuer.inbox,
        issuer_name: issuer.name.clone(),
        group: GroupId([0x32; 32]),
        group_name: Name::new("home").unwrap(),
        folder: FolderId([0x33; 32]),
        folder_name: Name::new("Photos").unwrap(),
        role: Role::Reader,
        expires: 1_800_000_000,
        addresses: vec!["192.168.1.20:22000".parse().unwrap()],
        mail: vec![MailAddress {
            relay: "kin:relay/relay.example.org:443".to_owned(),
            mailbox: [0x36; 32],
            token: None,
        }],
    };
    let sealed = invitation.seal(&keys, &issuing, &[0x37; 24]).unwrap();
    assert_eq!(Invitation::open(&sealed, &code), Ok(invitation.clone()));
    let greeting = Greeting {
        lookup: &keys.lookup,
        issuer: &issuer.device,
        joiner: &joiner.device,
        inbox: &joiner.inbox,
    };
    let by_link = greeting.mac(&keys.proof, Way::Link(&[0x41; 32]));
    let hello = code::Message::Hello(Hello {
        lookup: keys.lookup,
        inbox: joiner.inbox,
        name: joiner.name.clone(),
        mac: greeting.mac(&keys.proof, Way::Mail),
    });
    let (lookup, group) = (keys.lookup, GroupId([0x32; 32]));
    let refused = code::Message::Refused { lookup, why: Refusal::UsedUp };
    let texts = [
        ("code", code.to_text().expose().clone()),
        ("link", code.to_link(Some("kin:relay/relay.example.org:443")).expose().clone()),
        ("id", hex(&keys.id.0)),
        ("lookup", hex(&keys.lookup.0)),
        ("seal", hex(keys.seal.expose())),
        ("proof", hex(keys.proof.expose())),
        ("invitation", hex(&sealed)),
        ("mac_by_link", hex(&by_link)),
        ("hello", hex(&hello.encode())),
        ("admitted", hex(&code::Message::Admitted { lookup, group }.encode())),
        ("refused", hex(&refused.encode())),
        ("waits", hex(&code::Message::Waits { lookup, why: Wait::Asked }.encode())),
    ];
    let made: BTreeMap<_, _> = texts.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(printed("vectors-code"), made);
}

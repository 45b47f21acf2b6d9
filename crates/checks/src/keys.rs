//! The exchange of SSH keys: its messages, and Connecto's protocols, whatever the other side says.

use std::sync::LazyLock;

use ssh::{
    PublicKey, UserName,
    connecto::{Command, Json, Lines, MAX_LINE, Message as Said, Myself, Step, Talk, Text},
};
use wire::{
    session::Name,
    ssh::{MAX_HOST_KEY, MAX_HOST_KEYS, MAX_KEY, MAX_USER, Message},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

static ME: LazyLock<Myself> = LazyLock::new(|| Myself {
    name: Name::new("desk").expect("short"),
    user: UserName::new("alice").expect("is one"),
    key: PublicKey::parse(KEY).expect("is one"),
    comment: "alice@desk".to_owned(),
});

/// A message of the ceremony.
pub(crate) fn message(data: &[u8]) {
    let Ok(message) = Message::decode(data) else { return };
    assert_eq!(message.encode(), data, "one message, two forms");
    let plain = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match &message {
        Message::Hello(hello) => {
            assert_eq!(hello.key.is_some(), hello.purpose.logs_in());
            assert!(hello.key.iter().all(|key| plain(key) && key.len() <= MAX_KEY));
        }
        Message::Reach(reach) => {
            assert!(plain(&reach.user) && (1..=MAX_USER).contains(&reach.user.len()));
            assert!(reach.port != 0 && reach.host_keys.len() <= MAX_HOST_KEYS);
            assert!(reach.host_keys.iter().all(|key| plain(key) && key.len() <= MAX_HOST_KEY));
        }
        _ => {}
    }
}

/// A public key from outside, in a line that may hold anything.
pub(crate) fn key(data: &[u8]) {
    let Ok(line) = str::from_utf8(data) else { return };
    let Ok(key) = PublicKey::parse(line) else { return };
    let (text, kind) = (key.as_str(), key.kind());
    // One line of two words, which is read as the same key, and is in what was said.
    assert_eq!(text.split(' ').collect::<Vec<_>>(), [kind, key.base64()]);
    assert!(text.bytes().all(|byte| (0x21..0x7f).contains(&byte) || byte == b' '));
    assert_eq!(PublicKey::parse(text).as_ref(), Ok(&key), "one key, two forms");
    assert!(line.contains(kind) && !line.contains("PRIVATE KEY"));
    assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
    // With a name behind it, it is the same.
    let named = format!("{text} somebody@somewhere\n");
    assert_eq!(PublicKey::parse(&named).as_ref(), Ok(&key));
    assert!(PublicKey::parse(&format!("{text} {text}")).is_err(), "two keys");
    assert!(PublicKey::parse(&format!("command=\"x\" {text}")).is_err(), "options");
}

/// One byte says which side is played against, and whether its person says yes; the rest is what comes.
pub(crate) fn connecto(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let me = || ME.clone();
    let mut talk: Box<dyn Talk> = match how % 6 {
        0 => Box::new(Json::listen(me().name, me().user)),
        1 => Box::new(Json::pair(me())),
        2 => Box::new(Json::sync_respond(me())),
        3 => Box::new(Json::sync_initiate(me(), 7)),
        4 => Box::new(Text::listen(me().name, me().user)),
        _ => Box::new(Text::pair(me())),
    };
    let yes = how & 0x80 == 0;
    let mut played = Played { yes, ..Played::default() };
    let steps = talk.begin();
    played.take(&mut *talk, steps);
    let mut lines = Lines::default();
    for piece in rest.chunks(1000) {
        lines.push(piece);
        while let Ok(Some(line)) = lines.take() {
            assert!(line.len() <= MAX_LINE && !line.contains('\n'));
            read(&line);
            if played.over {
                return;
            }
            let steps = talk.line(&line);
            played.take(&mut *talk, steps);
        }
    }
    if !played.over {
        talk.ended(None);
    }
}

/// What is understood of a line is understood again.
fn read(line: &str) {
    if let Ok(message) = Said::decode(line) {
        let again = message.encode();
        assert!(!again.contains(['\n', '\r']));
        assert_eq!(Said::decode(&again), Ok(message));
    }
    match Command::decode(line) {
        Ok(Command::PublicKey(key)) => {
            assert_eq!(PublicKey::parse(key.as_str()), Ok(key));
        }
        Ok(Command::Ok(name, user)) => {
            assert!(!name.as_str().contains(' ') && UserName::new(user.as_str()).is_ok());
        }
        Ok(Command::Err(words)) => assert!(words.len() <= 256),
        _ => {}
    }
}

#[derive(Default)]
struct Played {
    yes: bool,
    asked: bool,
    installed: bool,
    over: bool,
}

impl Played {
    fn take(&mut self, talk: &mut dyn Talk, steps: Vec<Step>) {
        for step in steps {
            assert!(!self.over, "it goes on after its end");
            let more = match step {
                Step::Send(line) => {
                    assert!(!line.contains(['\n', '\r']) && line.len() <= MAX_LINE);
                    continue;
                }
                Step::Ask(claim) => {
                    assert!(!self.asked, "asked twice");
                    self.asked = true;
                    assert!(claim.name.iter().all(|name| Name::new(name.as_str()).is_ok()));
                    talk.answer(self.yes)
                }
                Step::Install(_) => {
                    assert!(self.asked && self.yes && !self.installed, "nobody said yes to that");
                    self.installed = true;
                    talk.installed(Ok(()))
                }
                Step::Over(_) => {
                    self.over = true;
                    continue;
                }
            };
            self.take(talk, more);
        }
    }
}

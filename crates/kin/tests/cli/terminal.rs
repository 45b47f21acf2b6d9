//! A person at a terminal: a real one, whose other end the test holds.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::Home;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// The outer end of a terminal.
struct Terminal {
    keys: File,
    inner: File,
    screen: Receiver<u8>,
    seen: String,
}

impl Terminal {
    fn new() -> Self {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
        grantpt(&outer).and_then(|()| unlockpt(&outer)).expect("is ours");
        let name =
            ptsname(&outer, Vec::new()).expect("has a name").into_string().expect("is ASCII");
        let inner = File::options().read(true).write(true).open(name).expect("is ours");
        let keys = File::from(outer);
        let mut shown = keys.try_clone().expect("can be shared");
        let (send, screen) = channel();
        thread::spawn(move || {
            let mut byte = [0];
            while shown.read(&mut byte).is_ok_and(|read| read == 1) && send.send(byte[0]).is_ok() {}
        });
        Self { keys, inner, screen, seen: String::new() }
    }

    fn start(&self, home: &Home, args: &[&str]) -> Child {
        let end = || Stdio::from(self.inner.try_clone().expect("can be shared"));
        let mut kin = Command::new(env!("CARGO_BIN_EXE_kin"));
        kin.args(args)
            .current_dir(home.path())
            .env_clear()
            .env("KIN_HOME", home.path())
            .env("TERM", "xterm");
        kin.stdin(end()).stdout(end()).stderr(end()).spawn().expect("is built")
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Waits until `text` is on the screen, behind what was waited for before.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LONG;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(byte) = self.screen.recv_timeout(left) else {
                panic!("{text:?} does not come after {:?}", self.seen);
            };
            self.seen.push(char::from(byte));
        }
        std::mem::take(&mut self.seen)
    }

    fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 10, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.inner, size).expect("is a terminal");
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.inner).expect("is a terminal").local_modes.contains(LocalModes::ECHO)
    }
}

fn ended(mut kin: Child) -> ExitStatus {
    kin.wait().expect("is ours")
}

fn signal(kin: &Child, signal: Signal) {
    kill_process(Pid::from_child(kin), signal).expect("it runs");
}

const ALONE: [&str; 7] = ["sync", "folder", "-p", "0", "--no-discovery", "--once", "--timeout"];

#[test]
fn t5_a_passphrase_is_not_echoed() {
    let (home, mut terminal) = (Home::new(), Terminal::new());
    let kin = terminal.start(&home, &[&ALONE[..], &["1", "--passphrase"]].concat());
    terminal.wait_for("Passphrase");
    assert!(!terminal.echoes());
    terminal.type_in("hunter2\n");
    let seen = terminal.wait_for("no other device came");
    assert!(!seen.contains("hunter2"), "{seen}");
    assert_eq!(ended(kin).code(), Some(4));
    assert!(terminal.echoes(), "the terminal is left without echo");
}

#[test]
fn t5_an_empty_line_shows_four_words() {
    let (home, mut terminal) = (Home::new(), Terminal::new());
    let kin = terminal.start(&home, &[&ALONE[..], &["1", "--passphrase"]].concat());
    terminal.wait_for("Passphrase");
    terminal.type_in("\n");
    terminal.wait_for("Type these four words on the other devices:\r\n\r\n");
    let words = terminal.wait_for("\n");
    assert_eq!(words.split_whitespace().count(), 4, "{words:?}");
    assert_eq!(ended(kin).code(), Some(4));
}

#[test]
fn a_signal_at_the_passphrase_prompt_gives_the_terminal_back() {
    let (home, mut terminal) = (Home::new(), Terminal::new());
    let kin = terminal.start(&home, &["sync", "folder", "--passphrase"]);
    terminal.wait_for("Passphrase");
    assert!(!terminal.echoes());
    signal(&kin, Signal::INT);
    assert_eq!(ended(kin).code(), Some(1));
    assert!(terminal.echoes(), "the terminal is left without echo");
    assert_eq!(
        std::fs::read_dir(home.folder()).expect("is there").count(),
        0,
        "something was created"
    );
}

#[test]
fn sigterm_stops_gracefully_and_is_success() {
    let (home, mut terminal) = (Home::new(), Terminal::new());
    let kin = terminal.start(&home, &["sync", "folder", "-p", "0", "--no-discovery"]);
    terminal.wait_for("this device is");
    signal(&kin, Signal::TERM);
    terminal.wait_for("finishing; press Ctrl-C again to stop at once");
    assert_eq!(ended(kin).code(), Some(0));
}

/// A device that a program runs, beside the one at the terminal.
struct Other {
    kin: Child,
    events: BufReader<std::process::ChildStdout>,
    answers: ChildStdin,
}

impl Other {
    fn start(home: &Home, name: &str) -> (Self, u64) {
        let mut kin = Command::new(env!("CARGO_BIN_EXE_kin"));
        kin.args(["sync", "folder", "-p", "0", "--no-discovery", "--json", "-n", name]);
        kin.current_dir(home.path()).env_clear().env("KIN_HOME", home.path());
        let mut kin = kin.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("is built");
        let events = BufReader::new(kin.stdout.take().expect("is piped"));
        let answers = kin.stdin.take().expect("is piped");
        let mut other = Self { kin, events, answers };
        let port = other.wait_for(|event| event["event"] == "listening")["port"].as_u64();
        (other, port.expect("is a number"))
    }

    #[track_caller]
    fn wait_for(&mut self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        loop {
            let mut line = String::new();
            self.events.read_line(&mut line).expect("is text");
            assert!(!line.is_empty(), "it ended before the event came");
            let event = serde_json::from_str(&line).expect("is JSON");
            if wanted(&event) {
                return event;
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        signal(&self.kin, Signal::KILL);
        self.kin.wait().expect("is ours");
    }
}

/// Starts both and waits until the question is on the screen; `typed_before` was typed before that.
fn asked(typed_before: &str, name: &str) -> (Home, Home, Terminal, Child, Other, String) {
    let (home, other_home, mut terminal) = (Home::new(), Home::new(), Terminal::new());
    terminal.resize(20);
    let (mut other, port) = Other::start(&other_home, name);
    terminal.type_in(typed_before);
    let peer = format!("127.0.0.1:{port}");
    let kin = terminal.start(&home, &["sync", "folder", "-p", "0", "--no-discovery", "-a", &peer]);
    let seen = terminal.wait_for("show exactly the same? Compare, then answer [y/N] ");
    let question = other.wait_for(|event| event["event"] == "confirm");
    assert!(seen.contains(question["sas"].as_str().expect("has one")), "{seen}: {question}");
    writeln!(other.answers, "y {}", question["id"]).expect("it runs");
    (home, other_home, terminal, kin, other, seen)
}

#[test]
fn t6_what_was_typed_before_the_question_is_discarded() {
    let (_home, _other_home, mut terminal, kin, mut other, _) = asked("y\ny\n", "other");
    terminal.type_in("n\n");
    let end =
        other.wait_for(|event| event["event"] == "peer_connected" || event["kind"] == "refused");
    assert_eq!(end["event"], "error", "{end}");
    signal(&kin, Signal::INT);
    assert_eq!(ended(kin).code(), Some(0));
}

#[test]
fn t6_a_yes_that_is_typed_after_the_question_counts() {
    let (home, other_home, mut terminal, kin, mut other, _) = asked("", "other");
    std::fs::write(other_home.folder().join("letter.txt"), "Dear Anna").expect("there is room");
    terminal.type_in("y\n");
    terminal.wait_for("connected with other");
    other.wait_for(|event| event["event"] == "in_sync");
    terminal.wait_for("in sync with 1 other device");
    signal(&kin, Signal::INT);
    assert_eq!(ended(kin).code(), Some(0));
    drop((home, other));
}

#[test]
fn dsync_12_a_long_cjk_name_on_a_narrow_terminal() {
    let name = "日本語のとても長い名前の機械です日本語";
    let (_home, other_home, mut terminal, kin, mut other, _) = asked("", name);
    for file in 0..50 {
        let path = other_home.folder().join(format!("{file}-{}.txt", "長".repeat(80)));
        std::fs::write(path, "x").expect("there is room");
    }
    terminal.type_in("y\n");
    other.wait_for(|event| event["event"] == "in_sync");
    terminal.wait_for("in sync with 1 other device");
    signal(&kin, Signal::INT);
    assert_eq!(ended(kin).code(), Some(0));
}

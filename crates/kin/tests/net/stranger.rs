//! Strangers: who is not let in reads, writes and deletes nothing, and costs nothing.
//!
//! A stranger is this very binary, started on a third host with a role to play ([`play_role`]).

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, ChildStdout, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use lab::{Answers, Host, Kin, LONG, SHORT, Usage, files, pump_until, trees};

use crate::common::{
    PORT, address, agree, converge, everywhere, lan, listening, nowhere, open, open_to, stop_all,
    sync,
};
use crate::{attacks, harness, ssh_meet};

/// Names the role in a child's environment; its arguments follow, divided by spaces.
const ROLE: &str = "KIN_LAB_ROLE";
/// The port that strangers listen on.
pub(crate) const STRANGE: u16 = 9500;

/// Somebody else on the network. Killed on drop.
pub(crate) struct Stranger {
    child: Child,
    said: Receiver<String>,
}

impl Stranger {
    pub(crate) fn start(host: &Host, role: &str) -> Self {
        let me = env::current_exe().expect("this binary has a path");
        let mut child = host
            .command(me)
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary can be started");
        let out: ChildStdout = child.stdout.take().expect("piped above");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, said }
    }

    /// The next line it says.
    #[track_caller]
    pub(crate) fn says(&self, limit: Duration) -> String {
        self.says_within(limit).expect("the stranger says something in time")
    }

    /// The next line it says, if it says one in time.
    pub(crate) fn says_within(&self, limit: Duration) -> Option<String> {
        self.said.recv_timeout(limit).ok()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the role that the environment names, if it names one.
pub(crate) fn play_role() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    let words: Vec<&str> = role.split(' ').collect();
    match *words.as_slice() {
        ["proxy", target, folder] => proxy(target, Path::new(folder)),
        ["replay", target, file] => replay(target, Path::new(file)),
        ["hold", target, count] => hold(target, count.parse().expect("a number")),
        ["babble", target, count] => babble(target, count.parse().expect("a number")),
        ["advertise"] => advertise(),
        ["malform", own] => attacks::malform(own.parse().expect("an address")),
        ["hear", own] => harness::hear(own.parse().expect("an address")),
        ["call", own] => harness::call(own.parse().expect("an address")),
        ["connecto", ref words @ ..] => ssh_meet::connecto(words),
        ["sink"] => harness::sink(),
        ["pour", target, bytes] => harness::pour(target, bytes.parse().expect("a number")),
        _ => return Some(ExitCode::FAILURE),
    }
    Some(ExitCode::SUCCESS)
}

pub(crate) fn say(text: impl std::fmt::Display) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}

/// Passes everything on to `target`, and writes it down in `folder`: `up` and `down`. While
/// `folder/flip` exists, one byte of each piece is changed.
fn proxy(target: &str, folder: &Path) {
    let listener = TcpListener::bind(("0.0.0.0", STRANGE)).expect("the port is free");
    say("listening");
    for client in listener.incoming().flatten() {
        let Ok(server) = TcpStream::connect(target) else { continue };
        for (from, to, name) in [(&client, &server, "up"), (&server, &client, "down")] {
            let (mut from, mut to) =
                (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
            let folder = folder.to_owned();
            std::thread::spawn(move || {
                let mut log = fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(folder.join(name))
                    .expect("a file to write down what passes");
                let mut piece = vec![0; 65536];
                while let Ok(n @ 1..) = from.read(&mut piece) {
                    let _ = log.write_all(&piece[..n]);
                    if folder.join("flip").exists() {
                        piece[n / 2] ^= 0x20;
                    }
                    if to.write_all(&piece[..n]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    }
}

/// Sends what was recorded to `target`, and says how much it answered before it hung up.
fn replay(target: &str, file: &Path) {
    let recorded = fs::read(file).expect("a recording");
    let mut stream = TcpStream::connect(target).expect("it listens");
    let _ = stream.write_all(&recorded);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    say(format_args!("answered {}", answer.len()));
}

/// Opens `count` connections, sends nothing, and says when each was closed by the other side.
fn hold(target: &str, count: usize) {
    let streams: Vec<_> = (0..count).filter_map(|_| TcpStream::connect(target).ok()).collect();
    say("connected");
    for mut stream in streams {
        let _ = stream.read(&mut [0; 1]);
    }
    say("closed");
}

/// Announces huge lengths on `count` connections, and sends as much as it is let.
fn babble(target: &str, count: usize) {
    let junk = vec![0xff; 1 << 20];
    // A TLS record of the largest length, a bare length of 4 GiB, and a request in another language.
    let openings: [&[u8]; 3] =
        [&[0x16, 0x03, 0x01, 0xff, 0xff], &[0xff; 8], b"GET / HTTP/1.1\r\nHost: kin\r\n\r\n"];
    for number in 0..count {
        let Ok(mut stream) = TcpStream::connect(target) else { continue };
        let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
        let _ = stream.write_all(openings[number % openings.len()]);
        for _ in 0..8 {
            if stream.write_all(&junk).is_err() {
                break;
            }
        }
    }
    say("done");
}

/// Repeats the advert of whoever is there, under fifty other names that lead here; says "dialled" when
/// somebody follows one, and answers with noise.
fn advertise() {
    use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};
    const SERVICE: &str = "_kin._tcp.local.";
    let listener = TcpListener::bind(("0.0.0.0", STRANGE)).expect("the port is free");
    let daemon = ServiceDaemon::new().expect("multicast");
    let adverts = daemon.browse(SERVICE).expect("a service name");
    let copied = loop {
        match adverts.recv_timeout(SHORT).expect("somebody advertises") {
            ServiceEvent::ServiceResolved(info) => break info,
            _ => continue,
        }
    };
    let text: Vec<(String, String)> = copied
        .txt_properties
        .iter()
        .map(|property| {
            // Word for word it would be taken for the copied device's own and left alone.
            let value = match property.key() {
                "r" | "m" => property.val_str().chars().rev().collect(),
                _ => property.val_str().to_owned(),
            };
            (property.key().to_owned(), value)
        })
        .collect();
    for number in 0..50 {
        let name = format!("../../host-a {number}");
        let info = ServiceInfo::new(SERVICE, &name, "evil.local.", "", STRANGE, text.as_slice())
            .expect("an advert")
            .enable_addr_auto();
        daemon.register(info).expect("an advert");
    }
    say("advertised");
    let mut noise = vec![0; 1 << 16];
    files::Noise::new(1).fill(&mut noise);
    for mut stream in listener.incoming().flatten() {
        say("dialled");
        let _ = stream.write_all(&noise);
    }
}

/// Who has only completed the handshake gets nothing, and links never lead out of the folder.
pub(crate) fn dsync_01_a_stranger_reads_writes_and_deletes_nothing() {
    let lan = lan(2);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(left.join("diary.txt"), "private");
    files::write(right.join("evil.txt"), "planted");
    fs::create_dir(right.join("diary.txt")).expect("a directory");
    let before = [trees::Snapshot::of(&left), trees::Snapshot::of(&right)];
    let mut a = sync(lan.host(0)).start();
    // The stranger says yes to everything, for its own side.
    let mut b = sync(lan.host(1)).args(&["--open"]).start();
    let asked = a.expect("confirm");
    a.answer(&asked, false);
    b.expect_where("told that it was refused", SHORT, |e| {
        e["event"] == "error" && e["kind"] == "refused"
    });
    stop_all(&mut [&mut b, &mut a]);
    before[0].assert_unchanged(&left);
    before[1].assert_unchanged(&right);
    assert_eq!(a.count("peer_connected"), 0);

    // Even a member cannot reach out of the folder through a link that lies in it.
    let outside = lan.host(0).home().join("outside");
    files::write(outside.join("precious.txt"), "precious");
    fs::remove_dir(right.join("diary.txt")).expect("it is there");
    symlink(&outside, left.join("way-out")).expect("a link");
    files::write(right.join("way-out/precious.txt"), "overwritten");
    files::write(right.join("way-out/new.txt"), "planted");
    let untouched = trees::Snapshot::of(&outside);
    let mut a = listening(open(lan.host(0)));
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], SHORT);
    trees::assert_same(&left, &right);
    untouched.assert_unchanged(&outside);
    // And live: what was a directory becomes a way out under the member's hands.
    files::write(left.join("d/x.txt"), "inside");
    everywhere(&lan, &mut [&mut a, &mut b], "d/x.txt", "inside");
    fs::remove_dir_all(left.join("d")).expect("it is there");
    symlink(&outside, left.join("d")).expect("a link");
    files::write(right.join("d/precious.txt"), "through the link");
    fs::remove_file(right.join("evil.txt")).expect("it is there");
    nowhere(&lan, &mut [&mut a, &mut b], "evil.txt");
    pump_until(&mut [&mut a, &mut b], SHORT, "both agree again", |_| trees::same(&left, &right));
    untouched.assert_unchanged(&outside);
    stop_all(&mut [&mut a, &mut b]);
}

/// A rogue advert made dsync's clients hand over everything.
pub(crate) fn dsync_01_a_rogue_advert_changes_nothing() {
    let lan = lan(3);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = listening(sync(lan.host(0)).args(&["--open"]));
    let rogue = Stranger::start(lan.host(2), "advertise");
    assert_eq!(rogue.says(SHORT), "advertised");
    assert_eq!(rogue.says(SHORT), "dialled");
    // Somebody honest still gets in.
    files::write(lan.host(1).shared().join("b.txt"), "b's");
    let mut b = sync(lan.host(1)).args(&["--open"]).start();
    agree(&mut [&mut a, &mut b], SHORT);
    assert_eq!((a.count("peer_connected"), b.count("peer_connected")), (1, 1));
    assert_eq!(trees::paths(&lan.host(0).shared()), ["a.txt", "b.txt"]);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    assert_eq!(trees::paths(&lan.host(2).shared()), [""; 0]);
    stop_all(&mut [&mut a, &mut b]);
}

/// Everything passes through a third host: it cannot read, cannot change, and cannot show both sides
/// the same words when it takes part.
pub(crate) fn dsync_02_a_man_in_the_middle_reads_and_changes_nothing() {
    let lan = lan(3);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    let notes = lan.host(2).home().to_owned();
    let secret = "a sentence that must never be seen on the wire; ".repeat(200);
    files::write(left.join("a-telling-name.txt"), &secret);
    let mut a = listening(open(lan.host(0)));
    let middle = Stranger::start(
        lan.host(2),
        &format!("proxy {} {}", address(lan.host(0)), notes.display()),
    );
    assert_eq!(middle.says(SHORT), "listening");
    let through = format!("{}:{STRANGE}", lan.host(2).v4());
    let mut b = open(lan.host(1)).args(&["--peer", &through]).start();
    agree(&mut [&mut a, &mut b], SHORT);
    trees::assert_same(&left, &right);

    // It flips bytes: the link breaks, and what arrives is right or does not arrive.
    files::write(notes.join("flip"), "");
    files::write(left.join("a-telling-name.txt"), "short now");
    b.expect_where("a broken link", LONG, |e| e["event"] == "peer_disconnected");
    let held = files::read(right.join("a-telling-name.txt")).unwrap_or_default();
    assert!(held == secret.as_bytes() || held == b"short now", "a mixture");
    fs::remove_file(notes.join("flip")).expect("it is there");
    everywhere_of_two(&lan, &mut a, &mut b, "a-telling-name.txt", "short now");
    stop_all(&mut [&mut b, &mut a]);

    for name in ["up", "down"] {
        let seen = files::read(notes.join(name)).expect("it wrote down what passed");
        assert!(seen.len() > 1000, "only {} bytes passed {name}", seen.len());
        for wanted in ["a sentence that must", "telling-name", "host-a", "host-b"] {
            let found = seen.windows(wanted.len()).any(|part| part == wanted.as_bytes());
            assert!(!found, "{wanted:?} was seen in the open, {name}");
        }
    }
    drop(middle);

    // It takes part as a device of its own: then the two sides are shown different words.
    let mut m = listening(sync(lan.host(2)).args(&["--no-discovery"])).answering(Answers::Yes);
    let towards = address(lan.host(2));
    let ask = |i: usize| sync(lan.host(i)).args(&["--no-discovery", "-a", &towards]).start();
    let mut a = ask(0);
    let at_a = a.expect("confirm");
    a.answer(&at_a, false);
    let mut b = ask(1);
    pump_until(&mut [&mut m, &mut b], SHORT, "the other is asked", |kins| {
        kins[1].count("confirm") > 0
    });
    assert_ne!(at_a["sas"], b.expect("confirm")["sas"]);
}

/// As `everywhere`, for the first two of three hosts.
#[track_caller]
fn everywhere_of_two(lan: &lab::Lan, a: &mut Kin, b: &mut Kin, path: &str, text: &str) {
    pump_until(&mut [a, b], LONG, &format!("{path} holds {text:?}"), |_| {
        lan.hosts()[..2].iter().all(|host| files::holds(host.shared().join(path), text))
    });
}

/// dsync's frames could be sent again by anybody.
pub(crate) fn dsync_02_what_was_recorded_cannot_be_replayed() {
    let lan = lan(3);
    let (left, right) = (lan.host(0).shared(), lan.host(1).shared());
    files::write(right.join("pay.txt"), "once");
    let notes = lan.host(2).home().to_owned();
    let mut a = listening(open(lan.host(0)));
    let middle = Stranger::start(
        lan.host(2),
        &format!("proxy {} {}", address(lan.host(0)), notes.display()),
    );
    assert_eq!(middle.says(SHORT), "listening");
    let through = format!("{}:{STRANGE}", lan.host(2).v4());
    let mut b = open(lan.host(1)).args(&["--peer", &through]).start();
    agree(&mut [&mut a, &mut b], SHORT);
    b.stop();
    drop(middle);
    a.expect("peer_disconnected");
    fs::remove_file(left.join("pay.txt")).expect("it is there");

    let recorded = notes.join("up");
    let again = Stranger::start(
        lan.host(2),
        &format!("replay {} {}", address(lan.host(0)), recorded.display()),
    );
    assert!(again.says(LONG).starts_with("answered"), "and hung up");
    assert_eq!(a.count("peer_connected"), 1, "the recording was not let in");
    assert!(files::read(left.join("pay.txt")).is_none(), "nothing was done again");
    a.stop();
}

/// dsync believed a stranger's length and waited for ever: a GiB of memory, and no room for others.
pub(crate) fn dsync_03_a_stranger_gets_neither_memory_nor_time() {
    let lan = lan(3);
    files::write(lan.host(0).shared().join("a.txt"), "a's");
    let mut a = listening(open(lan.host(0)));
    let before = Usage::of(a.pid()).expect("it runs").peak;
    let target = format!("{}:{PORT}", lan.host(0).v4());
    let silent = Stranger::start(lan.host(2), &format!("hold {target} 64"));
    assert_eq!(silent.says(SHORT), "connected");
    let loud = Stranger::start(lan.host(2), &format!("babble {target} 30"));
    assert_eq!(loud.says(LONG), "done");
    let grown = Usage::of(a.pid()).expect("it runs").peak - before;
    assert!(grown < 32 << 20, "strangers took {grown} bytes");
    // While they hold their connections, somebody honest gets in.
    let mut b = open_to(lan.host(1), lan.host(0)).start();
    agree(&mut [&mut a, &mut b], SHORT);
    trees::assert_same(&lan.host(0).shared(), &lan.host(1).shared());
    assert_eq!(silent.says(LONG), "closed", "silence has a deadline");
    files::write(lan.host(0).shared().join("a.txt"), "edited");
    everywhere_of_two(&lan, &mut a, &mut b, "a.txt", "edited");
    converge_two(&lan, &mut a, &mut b);
    stop_all(&mut [&mut a, &mut b]);
}

fn converge_two(lan: &lab::Lan, a: &mut Kin, b: &mut Kin) {
    converge(lan, &mut [a, b], SHORT, 1);
}

//! A sharing code's uses are exact, though its issuer is killed again and again (rule T18, attacks 1 and 2): a real
//! `kin up`, a relay in this process, and 200 holders of the code who leave their hellos there.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use identity::{DeviceId, DeviceKey, InboxId, Secret};
use lab::{Kin, KinCommand, eventually_within};
use node::Home as Keys;
use relay::{
    Client, Identity, Limits, Rate, RelayAddress, Server, Settings,
    store::{LaneQuota, Quotas, Sqlite, Store},
};
use serde_json::Value;
use tokio::runtime::Runtime;
use wire::{
    code::{Code, Greeting, Hello, Invitation, Message, Way},
    envelope::{Letter, Recipient},
    mail::MailAddress,
    relay::{Deposit, LookupId, MailboxId},
    session::Name,
};

/// Longer than anything here takes on a busy machine.
const LONG: std::time::Duration = std::time::Duration::from_secs(120);
const JOINERS: usize = 200;
const USES: usize = 3;

/// A device of its own home, which a person uses by commands.
struct Device(PathBuf);

impl Device {
    fn new(top: &Path, name: &str) -> Self {
        let home = top.join(name);
        fs::create_dir_all(home.join(".local/state")).expect("there is room");
        Self(home)
    }

    fn start(&self, args: &[&str]) -> Kin {
        KinCommand::local(Path::new(env!("CARGO_BIN_EXE_kin")), &self.0, args).start()
    }

    /// Runs a command to its end.
    fn run(&self, args: &[&str]) -> Vec<Value> {
        let mut kin = self.start(args);
        let code = kin.wait(LONG).code();
        assert_eq!(code, Some(0), "kin {args:?}: {}", kin.stderr());
        kin.seen().cloned().collect()
    }

    /// Starts it; returns when it answers.
    fn up(&self) -> Kin {
        let kin = self.start(&["up", "--foreground", "--no-discovery", "--json"]);
        eventually_within(LONG, "the device answers", || {
            let mut asked = self.start(&["status", "--json"]);
            asked.wait(LONG).success() && asked.seen().any(|line| line["running"] == true)
        });
        kin
    }
}

/// Somebody who has the code, and what it says.
struct Joiner {
    home: Device,
    key: DeviceKey,
    inbox: InboxId,
}

impl Joiner {
    fn new(top: &Path, number: usize) -> Self {
        let home = Device::new(top, &format!("joiner-{number}"));
        let keys = Keys::open(&home.0.join(".local/state/kin")).expect("new keys");
        let inbox = keys.inbox();
        let (key, _) = keys.into_keys();
        Self { home, key, inbox }
    }

    fn letter(&self, code: &Code, to: &Recipient, sequence: u64) -> bytes::Bytes {
        let (keys, joiner) = (code.keys(), self.key.id());
        let (lookup, issuer, inbox) = (&keys.lookup, &to.device, &self.inbox);
        let mac = Greeting { lookup, issuer, joiner: &joiner, inbox }.mac(&keys.proof, Way::Mail);
        let name = Name::new("joiner").expect("a name");
        let hello = Message::Hello(Hello { lookup: keys.lookup, inbox: self.inbox, name, mac });
        let (kind, body) = (hello.kind(), hello.encode());
        let letter = Letter { author: joiner, group: None, kind, sequence, body, reply: None };
        letter.seal(&self.key, to).expect("it fits")
    }
}

/// A relay in this process, into whose store the test looks.
fn relay(runtime: &Runtime, dir: &Path) -> (RelayAddress, Arc<dyn Store>) {
    let much = LaneQuota { envelopes: 4096, bytes: 64 << 20 };
    let quotas = Quotas { strangers: much, ..Quotas::default() };
    let store: Arc<dyn Store> =
        Arc::new(Sqlite::open(&dir.join("relay.db"), quotas).expect("a new store"));
    let fast = Rate::new(1 << 20, 1 << 20);
    let limits = Limits { connects: fast, gets: fast, changes: fast, ..Limits::default() };
    let limits = Limits { deposits: Rate::new(1 << 30, 1 << 30), ..limits };
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let settings = Settings { listen, metrics: None, limits };
    let identity = Identity::from_seed(&Secret::new([42; 32])).expect("a key");
    let _within = runtime.enter();
    let server = Server::bind(&settings, &identity, Arc::clone(&store)).expect("a free port");
    let port = server.port().expect("it listens");
    runtime.spawn(server.run(std::future::pending()));
    (RelayAddress::new("127.0.0.1", port, identity.key()).expect("an address"), store)
}

/// How many of a kind of moments pass before the issuer is killed: by chance, other ones in each run.
fn chance(most: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has chance");
    u64::from_le_bytes(bytes) % (most + 1)
}

#[test]
fn attack_01_three_of_200_are_admitted_though_the_issuer_is_killed_again_and_again() {
    let top = tempfile::tempdir().expect("there is room");
    let runtime = Runtime::new().expect("threads");
    let (address, store) = relay(&runtime, top.path());
    let waiting = || runtime.block_on(store.counts()).expect("it is open").envelopes;
    let desk = Device::new(top.path(), "desk");
    fs::create_dir(desk.0.join("Photos")).expect("there is room");
    fs::write(desk.0.join("Photos/first"), "a picture").expect("there is room");
    desk.run(&["relay", "use", &address.to_string(), "--json"]);
    let running = desk.up();
    let dir = desk.0.join("Photos").to_string_lossy().into_owned();
    let uses = USES.to_string();
    let issued = desk.run(&["share", &dir, "--code", "--uses", &uses, "--json"]);
    let link = issued[0]["link"].as_str().expect("a link").to_owned();
    let (code, _) = Code::parse(&link).expect("a code");
    let client = Client::new(&address).expect("TLS can be set up");
    let mut sealed = None;
    eventually_within(LONG, "the invitation is posted", || {
        sealed = runtime.block_on(client.get(LookupId(code.keys().lookup.0))).expect("it answers");
        sealed.is_some()
    });
    let invitation =
        Invitation::open(&sealed.unwrap_or_default(), &code).expect("it is the code's");
    let place: MailAddress = invitation.mail[0].clone();
    let to = invitation.recipient();
    let joiners: Vec<Joiner> = (0..JOINERS).map(|number| Joiner::new(top.path(), number)).collect();
    // Everybody says it twice.
    let letters: Vec<bytes::Bytes> = (1..=2)
        .flat_map(|sequence| joiners.iter().map(move |joiner| (joiner, sequence)))
        .map(|(joiner, sequence)| joiner.letter(&code, &to, sequence))
        .collect();
    let all = letters.len() as u64;
    let mailbox = MailboxId(place.mailbox);
    let race = runtime.spawn(async move {
        let connection = client.connect().await.expect("it listens");
        for envelope in letters {
            let deposit = Deposit { mailbox, token: None, envelope };
            connection.deposit(&deposit).await.expect("there is room in the lane");
        }
    });
    // It is killed after as many letters as chance will have it: at first after none or a few, while uses are left.
    let (mut kin, mut lives, mut killed_after) = (running, 1, Vec::new());
    let mut handled = 0;
    while !(race.is_finished() && waiting() == 0) {
        let until = handled + chance(if lives < 6 { 1 } else { 60 });
        eventually_within(LONG, "it goes on", || {
            let left = waiting();
            (race.is_finished() && left == 0) || (race.is_finished() && all - left >= until) || {
                // While letters still come, what waits says nothing: any moment will do.
                !race.is_finished() && chance(3) == 0
            }
        });
        kin.kill();
        handled = if race.is_finished() { all - waiting() } else { 0 };
        killed_after.push(handled);
        kin = desk.up();
        lives += 1;
        // Once it lives it reaches its relay, or is killed before that: half of the time each.
        if chance(1) == 0 {
            eventually_within(LONG, "the relay is reached", || {
                desk.run(&["relay", "list", "--json"]).iter().all(|it| it["connected"] == true)
            });
        }
    }
    assert!(lives > 3, "it was killed in the middle: {killed_after:?}");
    let line = &desk.run(&["codes", "--json"])[0];
    assert_eq!((&line["uses_left"], &line["state"]), (&0.into(), &"used_up".into()), "{line}");
    assert_eq!(line["used_by"].as_array().map(Vec::len), Some(USES), "{line} {killed_after:?}");
    let devices = desk.run(&["devices", "--json"]);
    let ids = devices.iter().filter(|one| one["me"] == false && one["role"] == "reader");
    let ids: Vec<DeviceId> = ids
        .map(|one| one["device"].as_str().and_then(|id| id.parse().ok()).expect("an id"))
        .collect();
    assert_eq!((ids.len(), devices.len()), (USES, USES + 1), "{killed_after:?}");
    // Each is a member in full: with its own keys it joins now, and costs no use; nobody else does.
    let (won, lost): (Vec<&Joiner>, Vec<&Joiner>) =
        joiners.iter().partition(|joiner| ids.contains(&joiner.key.id()));
    assert_eq!(won.len(), USES);
    for (joiner, is_member) in won.iter().map(|one| (one, true)).chain([(&lost[0], false)]) {
        let _running = joiner.home.up();
        let dir = joiner.home.0.join("Pictures");
        let args = ["join", "-", &dir.to_string_lossy(), "--no-discovery", "--json"];
        let mut join = joiner.home.start(&args);
        join.type_line(&link);
        let offer = join.expect("offer");
        join.answer(&offer, true);
        if is_member {
            join.expect("joined");
            let picture = dir.join("first");
            eventually_within(LONG, "the folder comes", || {
                lab::files::holds(&picture, "a picture")
            });
        } else {
            assert_eq!(join.expect("refused")["reason"], "used_up");
        }
    }
    assert_eq!(desk.run(&["codes", "--json"])[0]["used_by"].as_array().map(Vec::len), Some(USES));
}

//! Devices that know each other: pairing, groups, folders that stay, roles and removal, all by the command
//! line, on two and three hosts.

use std::{fs, path::Path, process::Stdio, time::Duration};

use lab::{Host, Kin, KinCommand, Lan, SHORT, eventually_within};
use serde_json::Value;

use crate::common::{KIN, lan};

/// Longer than a link that has died in silence needs to be noticed and made anew.
const LONG: Duration = Duration::from_secs(60);

/// A device that runs on a host, and whose person types commands there.
pub(crate) struct Device<'a> {
    pub(crate) host: &'a Host,
    pub(crate) name: &'static str,
    pub(crate) running: Option<Kin>,
}

impl<'a> Device<'a> {
    pub(crate) fn new(host: &'a Host, name: &'static str) -> Self {
        let mut device = Self { host, name, running: None };
        device.run(&["devices", "rename", name, "--json"]);
        device.up();
        device
    }

    pub(crate) fn command(&self, args: &[&str]) -> Kin {
        KinCommand::on(Path::new(KIN), self.host, args).start()
    }

    pub(crate) fn up(&mut self) {
        self.running = Some(self.command(&["up", "--foreground", "--json"]));
        eventually_within(SHORT, "the device answers", || {
            self.code(&["status", "--json"]) == 0 && self.status()["running"] == true
        });
    }

    /// The device ends; its person may start it again.
    pub(crate) fn down(&mut self) {
        self.run(&["down", "--json"]);
        if let Some(mut kin) = self.running.take() {
            kin.wait(SHORT);
        }
    }

    /// Runs a command to its end; what it printed, line by line.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Vec<Value> {
        let (code, lines, said) = self.outcome(args);
        assert_eq!(code, 0, "{}: kin {args:?}: {said} {lines:?}", self.name);
        lines
    }

    pub(crate) fn code(&self, args: &[&str]) -> i32 {
        self.outcome(args).0
    }

    fn outcome(&self, args: &[&str]) -> (i32, Vec<Value>, String) {
        let output = self
            .host
            .command("env")
            .args(["-i", &format!("HOME={}", self.host.home().display()), "PATH=/usr/bin:/bin"])
            .arg(format!("KIN_SSH_HOME={}", self.host.home().display()))
            .arg(KIN)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let lines = String::from_utf8_lossy(&output.stdout);
        let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), lines, said)
    }

    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--json"]).into_iter().next().unwrap_or_default()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let devices = self.run(&["devices", "--json"]);
        let mut names: Vec<String> =
            devices.iter().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect();
        names.sort();
        names
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        eventually_within(LONG, &format!("{}: {what}", self.name), &mut holds);
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.host.home().join(name)
    }

    #[track_caller]
    pub(crate) fn holds(&self, path: &str, text: &str) {
        let at = self.path(path);
        self.until(&format!("{path} says {text:?}"), || lab::files::holds(&at, text));
    }

    pub(crate) fn join(&self, folder: &str, dir: &str) {
        self.until("the folder is known", || {
            self.run(&["folders", "--json"]).iter().any(|one| one["name"] == folder)
        });
        let dir = self.path(dir);
        self.run(&["join", folder, &dir.to_string_lossy(), "--yes", "--json"]);
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        if let Some(mut kin) = self.running.take() {
            kin.interrupt();
            kin.wait(SHORT);
        }
    }
}

/// Both people run `kin pair`, compare, say yes, and no to SSH.
pub(crate) fn pair(a: &Device<'_>, b: &Device<'_>) {
    let mut at_a = a.command(&["pair", "--json"]);
    let mut at_b = b.command(&["pair", "--json"]);
    let asked_a = at_a.expect("confirm");
    let asked_b = at_b.expect("confirm");
    assert_eq!(asked_a["sas"], asked_b["sas"], "both show the same");
    assert_eq!((&asked_a["name"], &asked_b["name"]), (&b.name.into(), &a.name.into()));
    assert!(asked_a["grants"].as_str().is_some_and(|grants| grants.contains("admin")));
    at_a.answer(&asked_a, true);
    at_b.answer(&asked_b, true);
    for kin in [&mut at_a, &mut at_b] {
        for direction in ["in", "out"] {
            let asked = kin.expect("ask");
            assert_eq!((&asked["about"], &asked["direction"]), (&"ssh".into(), &direction.into()));
            kin.answer(&asked, false);
        }
    }
    for kin in [&mut at_a, &mut at_b] {
        kin.expect("paired");
        assert_eq!(kin.exit_code(), Some(0));
    }
}

pub(crate) fn write(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir).expect("there is room");
    fs::write(dir.join(name), text).expect("there is room");
}

pub(crate) fn t9_a_day_in_the_life_of_three_devices() {
    let lan: Lan = lan(3);
    let laptop = Device::new(lan.host(0), "laptop");
    let mut nas = Device::new(lan.host(1), "nas");
    pair(&laptop, &nas);

    // A folder, on two devices, both ways.
    let documents = laptop.path("Documents");
    write(&documents, "letter", "dear");
    laptop.run(&["share", &documents.to_string_lossy(), "--json"]);
    nas.join("Documents", "docs");
    nas.holds("docs/letter", "dear");
    write(&nas.path("docs"), "answer", "no");
    laptop.holds("Documents/answer", "no");

    // A third device, as a reader: what it changes goes nowhere, and can be taken back (attack 32).
    let phone = Device::new(lan.host(2), "phone");
    pair(&laptop, &phone);
    nas.until("it knows the phone", || nas.names() == ["laptop", "nas", "phone"]);
    laptop.run(&["devices", "role", "phone", "reader", "--json"]);
    phone.until("it is a reader", || {
        phone
            .run(&["devices", "--json"])
            .iter()
            .any(|one| one["me"] == true && one["role"] == "reader")
    });
    assert_ne!(phone.code(&["devices", "remove", "laptop", "--yes"]), 0, "a reader removes nobody");
    phone.join("Documents", "d");
    phone.holds("d/letter", "dear");
    write(&phone.path("d"), "letter", "scribbled on");
    phone.until("its change is shown", || {
        phone.status()["errors"]
            .as_array()
            .is_some_and(|errors| errors.iter().any(|error| error["kind"] == "local_only"))
    });
    write(&documents, "news", "after that");
    nas.holds("docs/news", "after that");
    assert!(lab::files::holds(documents.join("letter"), "dear"), "nobody took it");
    phone.run(&["folders", "revert", "Documents", "--yes", "--json"]);
    phone.holds("d/letter", "dear");

    // Two edits that did not know each other: both are kept, and a person settles it.
    nas.host.unplug();
    write(&documents, "letter", "by laptop");
    write(&nas.path("docs"), "letter", "by nas");
    nas.host.plug();
    let conflicts = || laptop.run(&["conflicts", "Documents", "--json"]);
    laptop.until("there is a conflict copy", || !conflicts().is_empty());
    let copy = conflicts()[0]["copy"].as_str().expect("a path").to_owned();
    laptop.run(&["conflicts", "Documents", &copy, "--keep", "this", "--json"]);
    nas.until("it is settled there, too", || !nas.path("docs").join(&copy).exists());

    // A file that was deleted comes back, also after a restart of everything.
    fs::remove_file(nas.path("docs/answer")).expect("is there");
    laptop.until("it is gone", || !documents.join("answer").exists());
    nas.down();
    laptop.run(&["restore", "Documents", "answer", "--json"]);
    nas.up();
    nas.holds("docs/answer", "no");

    // A device is removed: everybody hears of it, and it gets nothing more (attack 21).
    laptop.run(&["devices", "remove", "phone", "--yes", "--json"]);
    nas.until("the phone is gone", || nas.names() == ["laptop", "nas"]);
    phone.until("it knows", || {
        phone.run(&["group", "list", "--json"]).iter().any(|one| one["role"] == "removed")
    });
    write(&documents, "secret", "not for the phone");
    nas.holds("docs/secret", "not for the phone");
    assert!(!phone.path("d/secret").exists());
}

pub(crate) fn t10_what_happened_while_a_device_was_away_reaches_it_by_any_member() {
    let lan: Lan = lan(3);
    let laptop = Device::new(lan.host(0), "laptop");
    let mut nas = Device::new(lan.host(1), "nas");
    pair(&laptop, &nas);
    nas.down();
    // An admission that the nas does not hear of, by a device that is gone when it comes back.
    let phone = Device::new(lan.host(2), "phone");
    pair(&laptop, &phone);
    let mut laptop = laptop;
    laptop.down();
    nas.up();
    // The phone brings its own admission along.
    nas.until("it knows the phone", || nas.names() == ["laptop", "nas", "phone"]);
    phone.until("they are linked", || {
        phone
            .run(&["devices", "--json"])
            .iter()
            .any(|one| one["name"] == "nas" && one["online"] == true)
    });
}

pub(crate) fn pairing_with_an_address_needs_no_discovery_and_a_no_leaves_nothing() {
    let lan: Lan = lan(2);
    let (a, b) = (lan.host(0), lan.host(1));
    let pairing = |host: &Host, other: &Host| {
        let other = other.v4().to_string();
        KinCommand::on(Path::new(KIN), host, &["pair", &other, "--port", "9001", "--json"]).start()
    };
    let mut at_a = pairing(a, b);
    let mut at_b = pairing(b, a);
    let asked_a = at_a.expect("confirm");
    let asked_b = at_b.expect("confirm");
    assert_eq!(asked_a["sas"], asked_b["sas"]);
    at_a.answer(&asked_a, true);
    at_b.answer(&asked_b, false);
    assert_eq!((at_a.exit_code(), at_b.exit_code()), (Some(3), Some(3)), "refused on both sides");
    for (host, name) in [(a, "a"), (b, "b")] {
        let device = Device { host, name, running: None };
        assert!(device.run(&["devices", "--json"]).is_empty());
        assert!(device.run(&["pair", "--status", "--json"]).is_empty(), "no join waits");
    }
}

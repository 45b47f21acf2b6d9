//! SSH between devices, with real servers, users and homes.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lab::{
    Kin, KinCommand, LONG, Lan, SHORT, eventually_within,
    sshd::{Account, Sshd},
};
use serde_json::Value;

use crate::common::KIN;

/// Two hosts of which one has alice and the other one bob, each with an SSH server.
pub(crate) struct Two<'a> {
    pub(crate) alice: Account<'a>,
    pub(crate) bob: Account<'a>,
    pub(crate) servers: [Sshd; 2],
    /// The command, where every user may run it.
    pub(crate) kin: PathBuf,
}

/// A network whose files every user can get at.
pub(crate) fn lan() -> Lan {
    Lan::new(&std::env::temp_dir(), 2)
}

impl<'a> Two<'a> {
    pub(crate) fn new(lan: &'a Lan) -> Self {
        let alice = Account::new(lan, lan.host(0), "alice", 22);
        let bob = Account::new(lan, lan.host(1), "bob", 2222);
        let servers = [alice.serve(), bob.serve()];
        let kin = lan.disk().join("kin");
        fs::copy(KIN, &kin).expect("there is room");
        Self { alice, bob, servers, kin }
    }

    /// Runs a command as a person; exit code, what it printed, and what it said.
    pub(crate) fn outcome(&self, who: &Account<'_>, args: &[&str]) -> (i32, Vec<Value>, String) {
        let out =
            who.command(&self.kin).args(args).stdin(Stdio::null()).output().expect("it starts");
        let lines = String::from_utf8_lossy(&out.stdout);
        let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code().unwrap_or(-1), lines, said)
    }

    /// The same, of a command that does what it is asked to do.
    #[track_caller]
    pub(crate) fn run(&self, who: &Account<'_>, args: &[&str]) -> Vec<Value> {
        let (code, lines, said) = self.outcome(who, args);
        assert_eq!(code, 0, "{}: kin {args:?}: {said} {lines:?}", who.user());
        lines
    }
}

fn ssh_file(who: &Account<'_>, name: &str) -> PathBuf {
    who.host().home().join(".ssh").join(name)
}

/// The fixture itself: nothing of ours but the key.
pub(crate) fn what_is_installed_by_hand_opens_a_login_and_closes_it_again() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    let made = two.run(alice, &["ssh", "keys", "generate", "--json"]);
    let key = Path::new(made[0]["path"].as_str().expect("a path")).to_owned();
    assert!(key.starts_with(ssh_file(alice, "")), "the home is the one of the uid");
    let public = fs::read(key.with_extension("pub")).expect("was made");
    let direct = |known: &str| {
        let mut command = alice.command("ssh");
        command.args(["-o", "BatchMode=yes", "-o", known, "-p", "2222", "-i"]).arg(&key);
        command.arg(format!("bob@{}", lan.host(1).v4())).arg("id -un");
        command.output().expect("it starts")
    };
    assert!(!direct("StrictHostKeyChecking=no").status.success(), "nobody let her in");
    let dir = ssh_file(bob, "");
    let mut install = bob.command("sh");
    install.args(["-c", "umask 077; mkdir -p .ssh; cat > .ssh/authorized_keys"]);
    install.current_dir(lan.host(1).home()).stdin(Stdio::piped());
    let mut install = install.spawn().expect("it starts");
    std::io::Write::write_all(&mut install.stdin.take().expect("piped"), &public)
        .expect("it reads");
    assert!(install.wait().expect("it ends").success());
    let out = direct("StrictHostKeyChecking=no");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "bob\n", "{out:?} {}", two.servers[1].log());
    fs::remove_dir_all(dir).expect("we are root");
    assert!(!direct("StrictHostKeyChecking=no").status.success());
}

/// `kin` as a person, begun.
fn start(two: &Two<'_>, who: &Account<'_>, args: &[&str]) -> Kin {
    KinCommand::on(&two.kin, who.host(), args).by(who).start()
}

/// Both pair by address, and agree to SSH in both directions. What was said of SSH then, for each.
fn pair(two: &Two<'_>) -> [Vec<Value>; 2] {
    two.run(&two.alice, &["devices", "rename", "desk", "--json"]);
    two.run(&two.bob, &["devices", "rename", "lap", "--json"]);
    let people = [&two.alice, &two.bob];
    let mut kins = [0, 1].map(|at: usize| {
        let other = people[1 - at].host().v4().to_string();
        start(two, people[at], &["pair", &other, "--port", "9001", "--json"])
    });
    for kin in &mut kins {
        let asked = kin.expect("confirm");
        kin.answer(&asked, true);
    }
    for kin in &mut kins {
        for _ in 0..2 {
            let asked = kin.expect("ask");
            kin.answer(&asked, true);
        }
    }
    kins.map(|mut kin| {
        kin.expect("paired");
        assert_eq!(kin.exit_code(), Some(0));
        kin.seen().filter(|event| event["event"] == "installed").cloned().collect()
    })
}

#[track_caller]
fn gets_in(who: &Account<'_>, name: &str) {
    let (done, said) = who.ssh(name);
    assert!(done, "{}: ssh {name}: {said}", who.user());
}

#[track_caller]
fn is_kept_out(who: &Account<'_>, name: &str, why: &str) {
    let (done, said) = who.ssh(name);
    assert!(!done && said.contains(why), "{}: ssh {name}: {said}", who.user());
}

pub(crate) fn t23_pairing_opens_logins_both_ways_and_unpair_closes_them() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    // What each had before stays, byte for byte.
    let foreign = b"# mine\r\nssh-rsa AAAA no end".as_slice();
    let mut put = bob.command("sh");
    put.args([
        "-c",
        "umask 077; mkdir .ssh; cat > .ssh/authorized_keys; echo 'Host other' > .ssh/config",
    ]);
    put.current_dir(bob.host().home()).stdin(Stdio::piped());
    let mut put = put.spawn().expect("it starts");
    std::io::Write::write_all(&mut put.stdin.take().expect("piped"), foreign).expect("it reads");
    assert!(put.wait().expect("it ends").success());

    let installed = pair(&two);
    for (events, alias) in installed.iter().zip(["lap", "desk"]) {
        assert!(events.iter().any(|event| event["name"] == alias), "{events:?}");
        assert_eq!(events.len(), 2, "{events:?}");
    }
    gets_in(alice, "lap");
    gets_in(bob, "desk");
    let tested = two.run(alice, &["ssh", "test", "lap", "--json"]);
    assert_eq!((&tested[0]["event"], &tested[0]["name"]), (&"tested".into(), &"lap".into()));
    let hosts = two.run(alice, &["ssh", "hosts", "--json"]);
    assert_eq!((&hosts[0]["user"], &hosts[0]["port"]), (&"bob".into(), &2222.into()));
    assert_eq!((&hosts[0]["allowed"], hosts.len()), (&true.into(), 1));
    let moved = two.run(alice, &["ssh", "update-ip", "lap", "10.77.0.2", "--json"]);
    assert_eq!(moved[0]["addr"], "10.77.0.2");

    two.run(bob, &["ssh", "unpair", "desk", "--json"]);
    assert_eq!(fs::read(ssh_file(bob, "authorized_keys")).expect("is there"), foreign);
    assert_eq!(fs::read(ssh_file(bob, "config")).expect("is there"), b"Host other\n");
    is_kept_out(alice, "lap", "Permission denied");
    let (code, _, said) = two.outcome(alice, &["ssh", "test", "lap"]);
    assert!(code == 3 && said.contains("does not let this device in"), "{code} {said}");
    gets_in_no_more_by_name(bob, "desk");
    let (code, _, _) = two.outcome(bob, &["ssh", "test", "desk"]);
    assert_eq!(code, 2, "nothing is installed for it");
}

fn gets_in_no_more_by_name(who: &Account<'_>, name: &str) {
    let (done, said) = who.ssh(name);
    assert!(!done && said.to_lowercase().contains("resolve"), "{said}");
}

pub(crate) fn attack_19_a_changed_host_key_is_a_hard_stop() {
    let lan = lan();
    let mut two = Two::new(&lan);
    pair(&two);
    gets_in(&two.alice, "lap");
    let pinned = fs::read(ssh_file(&two.alice, "known_hosts")).expect("is there");
    // Somebody sits in between, or the machine was installed anew: nobody can tell.
    two.bob.new_host_keys();
    two.servers[1].stop();
    two.servers[1] = two.bob.serve();
    is_kept_out(&two.alice, "lap", "REMOTE HOST IDENTIFICATION HAS CHANGED");
    let (code, lines, said) = two.outcome(&two.alice, &["ssh", "test", "lap", "--json"]);
    assert_eq!((code, &lines[0]["kind"]), (3, &"host_key_changed".into()), "{said} {lines:?}");
    assert_eq!(fs::read(ssh_file(&two.alice, "known_hosts")).expect("is there"), pinned);
    // The device itself tells the new keys over its link: they are not taken silently either.
    let mut running = [&two.alice, &two.bob].map(|who| up(&two, who));
    running[0].expect_where("it is told", SHORT, |event| event["kind"] == "host_key_changed");
    assert_eq!(fs::read(ssh_file(&two.alice, "known_hosts")).expect("is there"), pinned);
    // A person decides: what is pinned goes, and the new keys are taken with the next yes.
    two.run(&two.alice, &["ssh", "unpair", "lap", "--json"]);
    let device = two.run(&two.alice, &["devices", "--json"]);
    let id = device.iter().find(|one| one["name"] == "lap").expect("is known")["device"].clone();
    let id = id.as_str().expect("is text");
    let said =
        two.run(&two.alice, &["ssh", "allow", "lap", "--yes", "--expect-device", id, "--json"]);
    assert_eq!(said[0]["alias"], "lap", "{said:?}");
    gets_in(&two.alice, "lap");
}

/// The device in the background, once it answers.
fn up(two: &Two<'_>, who: &Account<'_>) -> Kin {
    let kin = start(two, who, &["up", "--foreground", "--json"]);
    eventually_within(SHORT, "the device answers", || {
        two.run(who, &["status", "--json"])[0]["running"] == true
    });
    kin
}

fn linked(two: &Two<'_>, who: &Account<'_>, name: &str) {
    eventually_within(LONG, "they are linked", || {
        let devices = two.run(who, &["devices", "--json"]);
        devices.iter().any(|one| one["name"] == name && one["online"] == true)
    });
}

/// Two people whose devices are a group, run, and are linked.
fn in_touch(two: &Two<'_>) -> [Kin; 2] {
    pair(two);
    let running = [&two.alice, &two.bob].map(|who| up(two, who));
    linked(two, &two.alice, "lap");
    linked(two, &two.bob, "desk");
    running
}

pub(crate) fn a_new_key_is_proved_before_the_old_one_goes() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    pair(&two);
    let keys = ssh_file(bob, "authorized_keys");
    let before = fs::read_to_string(&keys).expect("is there");
    fs::write(&keys, format!("{before}ssh-rsa AAAA other")).expect("we are root");
    let old = fs::read_to_string(ssh_file(alice, "kinfold_ed25519.pub")).expect("is there");
    let rotated = two.run(alice, &["ssh", "rotate", "--json"]);
    assert_eq!((&rotated[0]["event"], &rotated[0]["name"]), (&"rotated".into(), &"lap".into()));
    gets_in(alice, "lap");
    gets_in(bob, "desk");
    let after = fs::read_to_string(&keys).expect("is there");
    let base64 = |line: &str| line.split(' ').nth(1).expect("a key").to_owned();
    let new = fs::read_to_string(ssh_file(alice, "kinfold_ed25519_2.pub")).expect("is there");
    assert_eq!(after, before.replace(&base64(&old), &base64(&new)) + "ssh-rsa AAAA other");
    assert!(!ssh_file(alice, "kinfold_ed25519").exists(), "it opens nothing any more");

    // While the other machine cannot be reached, the old key stays; then it is gone on with.
    lan.host(1).unplug();
    let (code, _, said) = two.outcome(alice, &["ssh", "rotate"]);
    assert!(code == 1 && said.contains("still in use for lap"), "{code} {said}");
    lan.host(1).plug();
    assert!(ssh_file(alice, "kinfold_ed25519_2").exists());
    gets_in(alice, "lap");
    two.run(alice, &["ssh", "rotate", "--json"]);
    gets_in(alice, "lap");
    let left: Vec<_> = two.run(alice, &["ssh", "keys", "--json"]);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0]["path"].as_str().is_some_and(|path| path.ends_with("kinfold_ed25519_3")));
}

pub(crate) fn a_rotation_that_is_broken_off_is_gone_on_with() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    pair(&two);
    let keys = ssh_file(bob, "authorized_keys");
    let before = fs::read_to_string(&keys).expect("is there");
    // kin on the other machine is changing the file.
    let locked = fs::File::open(ssh_file(bob, "")).expect("we are root");
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).expect("nobody has it");
    let (code, _, said) = two.outcome(alice, &["ssh", "rotate"]);
    assert!(code == 1 && said.contains("others were changing it"), "{code} {said}");
    assert_eq!(fs::read_to_string(&keys).expect("is there"), before);
    // The new key gets there by another way; the old one cannot be taken away.
    let base64 = |name: &str| {
        let line = fs::read_to_string(ssh_file(alice, name)).expect("is there");
        line.split(' ').nth(1).expect("a key").to_owned()
    };
    let (old, new) = (base64("kinfold_ed25519.pub"), base64("kinfold_ed25519_2.pub"));
    fs::write(&keys, format!("{}{before}", before.replace(&old, &new))).expect("we are root");
    let (code, _, said) = two.outcome(alice, &["ssh", "rotate"]);
    assert!(code == 1 && said.contains("the old one is still there"), "{code} {said}");
    // So this device is reached by the old one still, and knows that there is something left to do.
    let config = || fs::read_to_string(ssh_file(alice, "kinfold_config")).expect("is there");
    assert!(config().contains("kinfold_ed25519\""), "{}", config());
    gets_in(alice, "lap");
    drop(locked);
    two.run(alice, &["ssh", "rotate"]);
    assert!(config().contains("kinfold_ed25519_2\""), "{}", config());
    assert_eq!(fs::read_to_string(&keys).expect("is there"), before.replace(&old, &new));
    assert!(!ssh_file(alice, "kinfold_ed25519").exists());
    gets_in(alice, "lap");
}

pub(crate) fn a_key_of_another_kind_is_the_one_that_linked_devices_are_told() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    let _running = in_touch(&two);
    two.run(alice, &["ssh", "rotate", "--rsa"]);
    gets_in(alice, "lap");
    let id = id_of(&two, alice, "lap");
    let again = ["ssh", "allow", "lap", "--only-out", "--yes", "--expect-device", &id, "--json"];
    let said = two.run(alice, &again);
    assert_eq!(said[0]["alias"], "lap", "{said:?}");
    gets_in(alice, "lap");
    let keys = two.run(alice, &["ssh", "keys", "--json"]);
    assert_eq!(keys.len(), 1, "no other one was made: {keys:?}");
    assert_eq!((&keys[0]["kind"], &keys[0]["used"]), (&"ssh-rsa".into(), &true.into()));
    let line = fs::read_to_string(ssh_file(bob, "authorized_keys")).expect("is there");
    assert!(line.starts_with("ssh-rsa ") && line.lines().count() == 1, "{line}");
}

fn id_of(two: &Two<'_>, who: &Account<'_>, name: &str) -> String {
    let devices = two.run(who, &["devices", "--json"]);
    let one = devices.iter().find(|one| one["name"] == name).expect("is known");
    one["device"].as_str().expect("is text").to_owned()
}

pub(crate) fn t23_all_lets_in_who_is_listed_and_agreed_to() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    let _running = in_touch(&two);
    two.run(bob, &["ssh", "unpair", "desk"]);
    is_kept_out(alice, "lap", "Permission denied");
    // A person, who answers each question.
    let mut kin = start(&two, bob, &["ssh", "allow", "--all", "--json"]);
    for direction in ["in", "out"] {
        let asked = kin.expect("ask");
        assert_eq!((&asked["direction"], &asked["name"]), (&direction.into(), &"desk".into()));
        kin.type_line("y");
    }
    assert_eq!(kin.exit_code(), Some(0));
    assert!(kin.stderr().contains("These devices are meant:"), "{}", kin.stderr());
    gets_in(alice, "lap");
    gets_in(bob, "desk");
    // Beforehand, for those that are named: one that is not is no yes.
    two.run(bob, &["ssh", "unpair", "desk"]);
    let id = id_of(&two, bob, "desk");
    let all = |expected: &str| {
        two.outcome(
            bob,
            &["ssh", "allow", "--all", "--only-in", "--yes", "--expect-device", expected],
        )
    };
    assert_eq!(all("kd1other").0, 1);
    is_kept_out(alice, "lap", "Permission denied");
    assert_eq!(all(&id).0, 0);
    gets_in(alice, "lap");
}

pub(crate) fn t23_a_leave_holds_for_its_time_and_its_networks() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    let _running = in_touch(&two);
    let id = id_of(&two, bob, "desk");
    let allow = |more: &[&str]| {
        let args = ["ssh", "allow", "desk", "--only-in", "--yes", "--expect-device", &id, "--json"];
        let said = two.run(bob, &[&args[..], more].concat());
        assert_eq!(said[0]["installed"], true, "{said:?}");
    };
    let keys = ssh_file(bob, "authorized_keys");
    allow(&["--expires", "24h", "--from", "10.77.0.0/24"]);
    gets_in(alice, "lap");
    // The same line, a day later: sshd reads it.
    let line = fs::read_to_string(&keys).expect("is there");
    let (start, rest) = line.split_once("expiry-time=\"").expect("it has an end");
    let (_, rest) = rest.split_once('"').expect("a quoted time");
    fs::write(&keys, format!("{start}expiry-time=\"20200101000000Z\"{rest}")).expect("we are root");
    is_kept_out(alice, "lap", "Permission denied");
    let hosts = two.run(bob, &["ssh", "hosts", "--json"]);
    assert_eq!(hosts[0]["allowed"], false, "{hosts:?}");
    allow(&["--from", "10.99.0.0/16"]);
    is_kept_out(alice, "lap", "Permission denied");
    allow(&[]);
    gets_in(alice, "lap");
    let (code, _, said) = two.outcome(bob, &["ssh", "allow", "desk", "--expires", "1s"]);
    assert!(code == 2 && said.contains("one minute"), "{said}");
    let other = ["ssh", "allow", "desk", "--yes", "--expect-device", "kd1other"];
    assert_eq!(two.outcome(bob, &other).0, 1, "another one is expected");
    assert_eq!(two.outcome(bob, &["ssh", "allow", "--all"]).0, 1, "the end of the input is a no");
}

pub(crate) fn attack_21_a_removed_device_is_kept_out_and_its_sessions_are_listed() {
    let lan = lan();
    let two = Two::new(&lan);
    let (alice, bob) = (&two.alice, &two.bob);
    let _running = in_touch(&two);
    // A session that is open stays open, and is named.
    let mut session = alice.command("ssh");
    session.args(["-o", "BatchMode=yes", "lap", "echo in; cat"]);
    session.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = session.spawn().expect("it starts");
    let mut said = [0; 3];
    std::io::Read::read_exact(session.stdout.as_mut().expect("piped"), &mut said)
        .expect("it is in");
    assert_eq!(&said, b"in\n");
    let removed = two.run(bob, &["devices", "remove", "desk", "--yes", "--json"]);
    let sessions = removed.iter().find(|line| line["event"] == "ssh_sessions");
    let sessions = sessions.expect("they are listed")["sessions"].to_string();
    assert!(sessions.contains("10.77.0.1:"), "{sessions}");
    let mut by_key = alice.command("ssh");
    by_key.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-p", "2222", "-i"]);
    by_key.arg(ssh_file(alice, "kinfold_ed25519")).args(["bob@10.77.0.2", "true"]);
    let out = by_key.stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("Permission denied"), "{said}");
    gets_in_no_more_by_name(bob, "desk");
    // The removed device hears of it, and lets nobody in any more either.
    eventually_within(SHORT, "it is taken away there", || {
        !fs::read_to_string(ssh_file(alice, "authorized_keys"))
            .expect("is there")
            .contains("kinfold:")
    });
    drop(session.stdin.take());
    assert!(session.wait().expect("it ends").success(), "it was not killed");
}

pub(crate) fn attack_17_a_full_disk_and_a_read_only_home_leave_files_as_they_were() {
    let lan = lan();
    let two = Two::new(&lan);
    let alice = &two.alice;
    let (home, disk) = (alice.host().home(), lan.disk().join("small"));
    fs::create_dir(&disk).expect("there is room");
    let owner = fs::metadata(home).expect("is there");
    let (uid, gid) = (owner.uid(), owner.gid());
    let mount = Mount::new(&disk, &format!("size=64k,uid={uid},gid={gid},mode=0700"));
    // Without another place for its state, a full disk would be found out by that.
    fs::create_dir_all(home.join(".local/state")).expect("there is room");
    let foreign: String = (0..420).map(|n| format!("ssh-rsa AAAA{n:0>80} user{n}\n")).collect();
    let entry = format!(
        r#"{{"kinfold_ssh":1,"devices":[{{"device":"kd1x","name":"x","allowed":[{{"key":"{}"}}]}}]}}"#,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz"
    );
    let book = lan.disk().join("book.json");
    fs::write(&book, entry).expect("there is room");
    let keys = disk.join(".ssh/authorized_keys");
    fs::create_dir(disk.join(".ssh")).expect("there is room");
    fs::write(&keys, &foreign).expect("there is room");
    for path in [disk.join(".ssh"), keys.clone()] {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("we are root");
    }
    for dir in [home.join(".local"), home.join(".local/state")] {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).expect("we are root");
    }
    let import = || {
        let mut command = alice.host().command("env");
        command.args(["-i", "PATH=/usr/bin:/bin"]).arg(format!("HOME={}", home.display()));
        command.arg(format!("KIN_SSH_HOME={}", disk.display())).args(alice.wrapper());
        command.arg(&two.kin).args(["ssh", "import"]).arg(&book).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut run = command.spawn().expect("it starts");
        std::io::Write::write_all(&mut run.stdin.take().expect("piped"), b"y\n").expect("it reads");
        let out = run.wait_with_output().expect("it ends");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let names = || {
        let names = fs::read_dir(disk.join(".ssh")).expect("is there").flatten();
        names.map(|entry| entry.file_name().into_string().expect("is text")).collect::<Vec<_>>()
    };
    // 43 KB are there, and there is no room for them twice.
    let (code, said) = import();
    assert!(code == Some(1) && said.contains("authorized_keys"), "{code:?} {said}");
    assert_eq!(fs::read_to_string(&keys).expect("is there"), foreign);
    assert_eq!(names(), ["authorized_keys"]);
    mount.remount("ro");
    let (code, said) = import();
    assert!(code == Some(1) && said.contains("authorized_keys"), "{code:?} {said}");
    assert_eq!(fs::read_to_string(&keys).expect("is there"), foreign);
    mount.remount("rw,size=1m");
    let (code, said) = import();
    assert_eq!(code, Some(0), "{said}");
    let text = fs::read_to_string(&keys).expect("is there");
    assert!(text.starts_with(&foreign) && text.contains("kinfold:kd1x"));
    assert_eq!(names(), ["authorized_keys"]);
}

/// A small file system in memory.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, options: &str) -> Self {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        assert!(command.status().is_ok_and(|status| status.success()), "{options}");
        Self(at.to_owned())
    }

    fn remount(&self, options: &str) {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{options}")]).arg(&self.0);
        assert!(command.status().is_ok_and(|status| status.success()), "{options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

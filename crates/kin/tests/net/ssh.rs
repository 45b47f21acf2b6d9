//! SSH between devices, with real servers, users and homes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use lab::{
    Lan,
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

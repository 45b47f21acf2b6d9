//! Hosts with accounts and an SSH server of their own: OpenSSH's, as a distribution ships it.
//!
//! `ip netns exec` lays what is in `/etc/netns/NAMESPACE` over `/etc`. So each host has its own users, its own
//! `/etc/ssh` and its own `/etc/hosts`, and nothing of that is the tester's.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Host, Lan, Machine, eventually};

/// The server's program.
const SSHD: &str = "/usr/sbin/sshd";
/// The first of our users; the host's number is added.
const FIRST_UID: u32 = 42_000;

/// A person with an account on a host, whose home is the host's. Gone with the value.
#[derive(Debug)]
pub struct Account<'a> {
    host: &'a Host,
    user: String,
    uid: u32,
    etc: PathBuf,
}

/// What is missing here to run SSH servers on hosts, in words.
#[must_use]
pub fn missing() -> Option<String> {
    if !Path::new(SSHD).is_file() {
        return Some(format!("{SSHD} (package openssh-server) is missing"));
    }
    if let Some(program) = ["ssh", "ssh-keygen", "setpriv"].iter().find(|it| !Machine::has(it)) {
        return Some(format!("the command `{program}` is missing"));
    }
    // In a user namespace the tester's /etc is not ours to write to.
    let mine = rustix::process::geteuid().is_root() && fs::create_dir_all("/etc/netns").is_ok();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all = map.split_whitespace().nth(2).is_some_and(|count| count.len() > 6);
    (!mine || !all).then(|| "hosts with accounts of their own need root".to_owned())
}

impl<'a> Account<'a> {
    /// Gives `user` an account on `host`, and the host an `/etc/ssh` with fresh host keys.
    ///
    /// # Panics
    /// If the machine cannot do it ([`missing`] tells beforehand).
    #[must_use]
    pub fn new(lan: &Lan, host: &'a Host, user: &str, port: u16) -> Self {
        let uid = FIRST_UID + u32::from(host.v4().octets()[3]);
        let etc = Path::new("/etc/netns").join(host.namespace());
        let home = host.home().display();
        let put = |name: &str, text: String| fs::write(etc.join(name), text).expect("we are root");
        fs::create_dir_all(etc.join("ssh")).expect("we are root");
        put(
            "passwd",
            format!(
                "root:*:0:0:root:/root:/bin/sh\nsshd:*:105:65534::/run/sshd:/usr/sbin/nologin\n\
                 {user}:*:{uid}:{uid}::{home}:/bin/sh\n"
            ),
        );
        put("group", format!("root:x:0:\nnogroup:x:65534:\n{user}:x:{uid}:\n"));
        put("hosts", "127.0.0.1 localhost\n".to_owned());
        put(
            "ssh/sshd_config",
            format!(
                "Port {port}\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PidFile none\nPrintMotd no\nLogLevel VERBOSE\n"
            ),
        );
        put("ssh/ssh_config", String::new());
        // Everybody passes through to their own home; the rest of what is on the way stays closed.
        for dir in host.home().ancestors().skip(1).take_while(|dir| dir.starts_with(lan.disk())) {
            open_to_all(dir);
        }
        chown(host.home(), Some(uid), Some(uid)).expect("we are root");
        for entry in fs::read_dir(host.home()).expect("was made").flatten() {
            chown(entry.path(), Some(uid), Some(uid)).expect("we are root");
        }
        let account = Self { host, user: user.to_owned(), uid, etc };
        account.new_host_keys();
        account
    }

    /// Its name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where it is.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.host
    }

    /// The host gets other host keys, as one that was installed anew.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn new_host_keys(&self) {
        for kind in ["ed25519", "ecdsa"] {
            let file = self.etc.join(format!("ssh/ssh_host_{kind}_key"));
            let _ = fs::remove_file(&file);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-t", kind, "-f"])
                .arg(&file)
                .status();
            assert!(made.is_ok_and(|status| status.success()), "{}", file.display());
        }
    }

    /// What starts a program as this user: to be put before it, behind what enters the namespace.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let uid = self.uid;
        ["setpriv", &format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]
            .map(str::to_owned)
            .into()
    }

    /// A program on this host, as this user, with nothing of the tester's environment.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.host.command("env");
        command.args(["-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8"]);
        command.arg(format!("HOME={}", self.host.home().display()));
        command.args(self.wrapper()).arg(program).current_dir("/");
        command
    }

    /// `ssh -o BatchMode=yes NAME true`, with no other option: does it work, and what did it say?
    ///
    /// # Panics
    /// If ssh cannot be started.
    #[must_use]
    pub fn ssh(&self, name: &str) -> (bool, String) {
        let mut command = self.command("ssh");
        let out = command
            .args(["-o", "BatchMode=yes", name, "true"])
            .stdin(Stdio::null())
            .output()
            .expect("the probe found it");
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    /// Starts the host's SSH server.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn serve(&self) -> Sshd {
        fs::create_dir_all("/run/sshd").expect("we are root");
        let path = self.host.home().with_extension("sshd.log");
        let log = fs::File::create(&path).expect("there is room");
        let child = self
            .host
            .command(SSHD)
            .args(["-D", "-e"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the probe found it");
        let sshd = Sshd { child, log: path };
        eventually("sshd listens", || sshd.log().contains("Server listening on"));
        sshd
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        // What is left behind here is small and has a name of ours.
        let _ = fs::remove_dir_all(&self.etc);
    }
}

fn open_to_all(dir: &Path) {
    let mode = fs::metadata(dir).expect("was made").permissions().mode();
    fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o111)).expect("is ours");
}

/// A running SSH server. Killed on drop.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    log: PathBuf,
}

impl Sshd {
    /// Ends it; sessions stay.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "=== sshd\n{}", self.log());
        }
    }
}

//! A local network: hosts in namespaces around one switch.

use std::{
    ffi::OsStr,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::files;

/// All our namespaces are called `kinlab-PID-COUNTER-ROLE`.
const PREFIX: &str = "kinlab-";

/// What addresses the hosts get beside the link-local ones that the kernel makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// 10.77.0.x/24 and IPv6 link-local.
    Dual,
    /// fd77::x/64 and IPv6 link-local, no IPv4 at all.
    V6,
    /// IPv6 link-local and nothing else.
    LinkLocal,
}

/// Bytes that passed a host's interface, headers included.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Bytes received.
    pub rx: u64,
    /// Bytes sent.
    pub tx: u64,
}

/// One machine on the [`Lan`]: a network namespace with one interface, `eth0`, and a home directory.
#[derive(Debug)]
pub struct Host {
    /// Name of its namespace.
    namespace: String,
    /// Namespace of the switch it is plugged into.
    switch: String,
    /// Name of its port there.
    port: String,
    /// From 1.
    number: u8,
    /// `host-a`, `host-b`, …
    name: String,
    /// Its files: the shared folder is `<home>/Shared`.
    home: PathBuf,
}

/// Two or more hosts on one switch. Everything is taken away on drop.
#[derive(Debug)]
pub struct Lan {
    switch: String,
    hosts: Vec<Host>,
    /// Removed last.
    disk: tempfile::TempDir,
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Lan {
    /// `count` hosts with IPv4 and IPv6 link-local addresses. Their files are made under `disk_under`.
    ///
    /// # Panics
    /// If the machine cannot do it ([`crate::Machine::probe`] tells beforehand).
    #[must_use]
    pub fn new(disk_under: &Path, count: u8) -> Self {
        Self::with(disk_under, count, Addressing::Dual)
    }

    /// `count` hosts with the addresses asked for.
    ///
    /// # Panics
    /// If the machine cannot do it.
    #[must_use]
    pub fn with(disk_under: &Path, count: u8, addressing: Addressing) -> Self {
        sweep();
        let run = COUNTER.fetch_add(1, Ordering::Relaxed);
        let base = format!("{PREFIX}{}-{run}", std::process::id());
        let disk = tempfile::Builder::new()
            .prefix("lab-")
            .tempdir_in(disk_under)
            .expect("a directory for the hosts' files");
        let switch = format!("{base}-switch");
        let mut lan = Self { switch: switch.clone(), hosts: Vec::new(), disk };
        ip(&["netns", "add", &switch]);
        inside(&switch, "ip link set lo up");
        // Snooping without a querier would make some bridges forget multicast groups.
        inside(&switch, "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up");
        for number in 1..=count {
            lan.plug(&base, number, addressing);
        }
        lan
    }

    fn plug(&mut self, base: &str, number: u8, addressing: Addressing) {
        let letter = char::from(b'a' + number - 1);
        let name = format!("host-{letter}");
        let home = self.disk.path().join(&name);
        fs::create_dir_all(home.join("Shared")).expect("a home for the host");
        let host = Host {
            namespace: format!("{base}-{letter}"),
            switch: self.switch.clone(),
            port: format!("port{number}"),
            number,
            name,
            home,
        };
        let namespace = host.namespace.clone();
        ip(&["netns", "add", &namespace]);
        self.hosts.push(host);
        let port = format!("port{number}");
        inside(&namespace, "ip link set lo up");
        // Without this an address is unusable for a second after it appears.
        inside(
            &namespace,
            "for f in /proc/sys/net/ipv6/conf/*/accept_dad; do \
             [ ! -e $f ] || echo 0 > $f; done",
        );
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            &namespace,
            "type",
            "veth",
            "peer",
            "name",
            &port,
            "netns",
            &self.switch,
        ]);
        inside(&self.switch, &format!("ip link set {port} master br0 && ip link set {port} up"));
        let address = match addressing {
            Addressing::Dual => format!("ip addr add 10.77.0.{number}/24 dev eth0"),
            Addressing::V6 => format!("ip addr add fd77::{number}/64 dev eth0 nodad"),
            Addressing::LinkLocal => "true".to_owned(),
        };
        inside(&namespace, &format!("{address} && ip link set eth0 up"));
        if addressing != Addressing::Dual {
            crate::eventually("a link-local address", || {
                let shown = inside(&namespace, "ip -6 addr show dev eth0 scope link");
                shown.contains("fe80::") && !shown.contains("tentative")
            });
        }
    }

    /// A host that is plugged in nowhere yet, behind one of this network's.
    pub(crate) fn inner(&self, number: u8) -> Host {
        let name = format!("site-{number}");
        let home = self.disk.path().join(&name);
        fs::create_dir_all(home.join("Shared")).expect("a home for the host");
        let namespace = format!("{}{name}", self.name());
        Host { namespace, switch: String::new(), port: String::new(), number, name, home }
    }

    /// Host `index`, from 0.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The names of its namespaces begin so.
    #[must_use]
    pub fn name(&self) -> &str {
        self.switch.trim_end_matches("switch")
    }

    /// A directory on the same file system as the hosts' files, gone with the network.
    #[must_use]
    pub fn disk(&self) -> &Path {
        self.disk.path()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().map(|h| &h.namespace).chain([&self.switch]) {
            // What is left behind here is swept by the next run.
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        files::make_removable(self.disk.path());
    }
}

impl Host {
    /// `host-a`, `host-b`, …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The folder its person shares.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.home.join("Shared")
    }

    /// Its IPv4 address, where the network has IPv4.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// `program`, to be started on this host. Replaces itself by the program, so that the child's
    /// process id is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Runs a line of shell on this host and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn sh(&self, script: &str) -> String {
        inside(&self.namespace, script)
    }

    /// Pulls the cable: both ends lose their carrier.
    pub fn unplug(&self) {
        inside(&self.switch, &format!("ip link set {} down", self.port));
    }

    /// Puts the cable back.
    pub fn plug(&self) {
        inside(&self.switch, &format!("ip link set {} up", self.port));
    }

    /// Packets to and from this host vanish from now on, and nobody is told.
    pub fn blackhole(&self) {
        inside(&self.switch, &format!("ip link set {} nomaster", self.port));
    }

    /// Ends [`Self::blackhole`].
    pub fn unblackhole(&self) {
        inside(&self.switch, &format!("ip link set {} master br0", self.port));
    }

    /// Gives this host another IPv4 address, as a network does that hands out leases.
    pub fn readdress(&self, last: u8) {
        inside(
            &self.namespace,
            &format!(
                "ip addr add 10.77.0.{last}/24 dev eth0 && ip addr del {}/24 dev eth0",
                self.v4()
            ),
        );
    }

    /// Limits what this host sends, in megabits a second. False if this kernel cannot.
    pub fn limit(&self, megabits: u32) -> bool {
        self.command("tc")
            .args(["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate"])
            .arg(format!("{megabits}mbit"))
            .args(["burst", "256k", "latency", "100ms"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    }

    /// Ends [`Self::limit`].
    pub fn unlimit(&self) {
        inside(&self.namespace, "tc qdisc del dev eth0 root");
    }

    /// What passed its interface since it was plugged in.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let shown = inside(
            &self.namespace,
            "cat /sys/class/net/eth0/statistics/rx_bytes /sys/class/net/eth0/statistics/tx_bytes",
        );
        let mut numbers = shown.lines().filter_map(|l| l.trim().parse().ok());
        Counters { rx: numbers.next().unwrap_or(0), tx: numbers.next().unwrap_or(0) }
    }
}

/// Runs a line of shell in a namespace.
pub(crate) fn inside(namespace: &str, script: &str) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", namespace, "sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("`ip` can be started: the probe did");
    assert!(
        output.status.success(),
        "`{script}` in {namespace}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn ip(args: &[&str]) {
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("`ip` can be started: the probe did");
    assert!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Removes namespaces of ours whose process is gone (killed before it could clean up).
fn sweep() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

//! What this machine can do: may we make network namespaces here, and how?

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// Set in a test process that already runs inside its own user namespace.
const INSIDE: &str = "KIN_LAB_INSIDE";
/// A person sets this to see what a machine without namespaces does.
const PRETEND_MISSING: &str = "KIN_LAB_PRETEND_MISSING";

/// Makes one namespace with a veth pair in it and takes it away again.
const TRIAL: &str = "n=kinlab-probe-$$; ip netns add $n || exit 1; \
    ip netns exec $n ip link add trial0 type veth peer name trial1; r=$?; \
    ip netns exec $n tc qdisc add dev trial0 root tbf rate 1mbit burst 16k latency 50ms 2>/dev/null \
    && echo shapes; ip netns del $n; exit $r";
/// Where `ip netns` keeps its names, made private to this user namespace.
const PRIVATE_RUN: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns";

/// How network namespaces can be made here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// As we are: root, or already inside a user namespace of our own.
    Direct,
    /// After entering a user namespace ([`Machine::enter`]).
    UserNamespace,
}

/// What the two-host tests found out about this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How namespaces can be made, or what is missing, in words.
    pub namespaces: Result<Door, String>,
    /// True if the kernel speaks IPv6.
    pub ipv6: bool,
    /// True if a line can be made slow (`tc`, and a kernel with the token bucket filter).
    pub shaping: bool,
}

impl Machine {
    /// Tries it out: makes a namespace and removes it.
    #[must_use]
    pub fn probe() -> Self {
        let ipv6 = Path::new("/proc/net/if_inet6").exists();
        match door() {
            Ok((door, shaping)) => Self { namespaces: Ok(door), ipv6, shaping },
            Err(missing) => Self { namespaces: Err(missing), ipv6, shaping: false },
        }
    }

    /// Replaces this process by itself inside a user namespace, where that is the door; returns
    /// otherwise. Call it before any thread is started.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn enter(&self) -> Result<(), String> {
        match &self.namespaces {
            Ok(Door::Direct) => Ok(()),
            Ok(Door::UserNamespace) => {
                let me = std::env::current_exe().map_err(|e| format!("own executable: {e}"))?;
                let mut command = unshare(&format!("{PRIVATE_RUN} && exec \"$0\" \"$@\""));
                command.arg(me).args(std::env::args_os().skip(1)).env(INSIDE, "1");
                Err(format!("cannot start unshare: {}", command.exec()))
            }
            Err(missing) => Err(missing.clone()),
        }
    }

    /// True if `program` can be started here.
    #[must_use]
    pub fn has(program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir| dir.join(program).is_file())
    }
}

/// The way in, and whether lines can be made slow there.
fn door() -> Result<(Door, bool), String> {
    if std::env::var_os(PRETEND_MISSING).is_some() {
        return Err(format!("{PRETEND_MISSING} is set"));
    }
    if !Machine::has("ip") {
        return Err("the command `ip` (package iproute2) is missing".to_owned());
    }
    let mut direct = Command::new("sh");
    direct.arg("-c").arg(TRIAL);
    let refused = match quietly(&mut direct) {
        Ok(shapes) => return Ok((Door::Direct, shapes)),
        Err(refused) => refused,
    };
    if std::env::var_os(INSIDE).is_some() {
        return Err(format!("inside a user namespace, and still: {refused}"));
    }
    match quietly(&mut unshare(&format!("{PRIVATE_RUN} && {{ {TRIAL}; }}"))) {
        Ok(shapes) => Ok((Door::UserNamespace, shapes)),
        Err(also) => Err(format!("no network namespaces: {refused}; in a user namespace: {also}")),
    }
}

fn unshare(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", script]);
    command
}

/// Runs the trial; true if it printed what it prints where lines can be made slow.
fn quietly(command: &mut Command) -> Result<bool, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output.stdout.starts_with(b"shapes"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("refused without a word").to_owned())
}

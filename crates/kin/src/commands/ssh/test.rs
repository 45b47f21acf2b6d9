//! `kin ssh test`: proves that a login works and asks nothing.

use std::{
    io::Read as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use ssh::{Home, Reached};
use tokio::time::sleep;

use crate::{
    answers,
    error::{CommandError, Exit},
    escape::escape,
    output::screen::Screen,
    ssh_files,
};

/// How long a login may take beyond ssh's own limit for connecting.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether ssh has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What ssh says is heard up to this many bytes.
const MAX_SAID: u64 = 64 << 10;

/// Log in to a device without asking anything, and log out again
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Its name for ssh, its name, or the beginning of its id
    #[arg(value_name = "NAME")]
    name: String,

    /// Give up connecting after this many seconds
    #[arg(short, long, value_name = "SECS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Serialize)]
struct Tested {
    event: &'static str,
    name: String,
}

/// Logs in.
pub(super) async fn run(screen: &Screen, json: bool, args: &TestArgs) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    let found = ssh_files::find(&here.home, &args.name)?;
    let Some(host) = found.host else {
        let said = format!("{} is not reached from here", escape(&found.name));
        return Err(CommandError::usage("unknown_host", &said)
            .hint("it may come in, but nothing was installed to go there: kin ssh pair, or kin ssh allow on it"));
    };
    login(&here.home, host.alias.as_str(), args.timeout).await?;
    let tested = Tested { event: "tested", name: host.alias.to_string() };
    answers::done(screen, json, &tested, &format!("ssh {} works, and asks nothing.", host.alias))
}

/// Logs in and out, as `ssh NAME` does.
///
/// # Errors
/// Why it did not work, as ssh says.
pub(super) async fn login(home: &Home, alias: &str, timeout: u64) -> Result<(), CommandError> {
    let mut command = client(home, timeout);
    command.arg("--").arg(alias).arg("true");
    let (done, said) = finish(command, timeout).await?;
    if done { Ok(()) } else { Err(explain(alias, &said)) }
}

/// `ssh` that asks nothing.
pub(super) fn client(home: &Home, timeout: u64) -> Command {
    let mut command = Command::new("ssh");
    if ssh_files::instead().is_some() {
        command.arg("-F").arg(home.path().join(".ssh/config"));
    }
    command.args(["-o", "BatchMode=yes", "-o", "ForwardAgent=no", "-o", "ControlPath=none"]);
    command.args(["-o", &format!("ConnectTimeout={timeout}")]);
    // No agent: it could hold a key that opens the account by itself.
    command.env_remove("SSH_AUTH_SOCK");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// `ssh` to a device by this key alone, with nothing of the user's configuration.
pub(super) fn direct(home: &Home, host: &Reached, key: &Path, timeout: u64) -> Command {
    let mut command = Command::new("ssh");
    let option = |name: &str, value: &str| format!("{name}={value}");
    let known_hosts = home.path().join(".ssh/known_hosts");
    command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
    command.args(["-o", "IdentitiesOnly=yes", "-o", "UpdateHostKeys=no"]);
    // Within quotes, and `%` doubled, as in a configuration.
    let known_hosts = format!("\"{}\"", known_hosts.display()).replace('%', "%%");
    command.args(["-o", &option("UserKnownHostsFile", &known_hosts)]);
    command.args(["-o", &option("HostKeyAlias", host.alias.as_str())]);
    command.args(["-o", &option("HostName", &host.host_name.replace('%', "%%"))]);
    command.args([
        "-o",
        &option("User", &host.user),
        "-o",
        &option("Port", &host.port.to_string()),
    ]);
    command.args(["-o", &option("ConnectTimeout", &timeout.to_string())]);
    command.arg("-i").arg(key);
    command.env_remove("SSH_AUTH_SOCK");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.arg("--").arg(host.alias.as_str());
    command
}

/// Runs it; whether it ended well, and what it said.
///
/// # Errors
/// If there is no ssh, or it does not end.
pub(super) async fn finish(command: Command, timeout: u64) -> Result<(bool, String), CommandError> {
    finish_with(command, timeout, drop).await
}

/// As [`finish`]; `feed` writes what it reads, if its input is a pipe.
///
/// # Errors
/// As [`finish`].
pub(super) async fn finish_with(
    mut command: Command,
    timeout: u64,
    feed: impl FnOnce(ChildStdin) + Send + 'static,
) -> Result<(bool, String), CommandError> {
    let mut run = command.spawn().map_err(|error| {
        CommandError::failed("no_ssh", &format!("ssh cannot be started: {error}"))
            .hint("install the OpenSSH client")
    })?;
    if let Some(stdin) = run.stdin.take() {
        tokio::task::spawn_blocking(move || feed(stdin));
    }
    let stderr = run.stderr.take();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            // What could be read is told; ssh's end says the rest.
            let _ = stderr.take(MAX_SAID).read_to_end(&mut said);
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let end = Instant::now() + Duration::from_secs(timeout) + PATIENCE;
    loop {
        match run.try_wait() {
            Ok(Some(status)) => return Ok((status.success(), said.await.unwrap_or_default())),
            Ok(None) if Instant::now() < end => sleep(LOOK_EVERY).await,
            Ok(None) => {
                let _ = run.kill();
                let _ = run.wait();
                let said = "ssh did not come to an end";
                return Err(CommandError::new(Exit::TimedOut, "timeout", said));
            }
            Err(error) => return Err(CommandError::failed("io", &format!("ssh: {error}"))),
        }
    }
}

/// What ssh said, in the words and with the exit code of a command of ours.
pub(super) fn explain(alias: &str, said: &str) -> CommandError {
    let last =
        said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    let told = |exit, kind: &'static str, what: &str, hint: &str| {
        CommandError::new(exit, kind, &format!("{alias}: {what}: {last}")).hint(hint)
    };
    if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
        || said.contains("Host key verification failed")
    {
        return told(
            Exit::Refused,
            "host_key_changed",
            "its host key is not the one that is pinned",
            "if it was installed anew, kin ssh unpair it and pair again; if not, somebody may sit in between",
        );
    }
    if said.contains("Permission denied") {
        return told(
            Exit::Refused,
            "refused",
            "it does not let this device in",
            "it may have expired, or been taken back there: kin ssh hosts on it says",
        );
    }
    if said.contains("timed out") {
        return told(
            Exit::TimedOut,
            "timeout",
            "nobody answers",
            "is it on, and at this address? kin ssh update-ip changes it",
        );
    }
    told(
        Exit::Failed,
        "unreachable",
        "ssh does not get through",
        "does sshd run there? kin ssh hosts shows address and port",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_becomes_a_reason_and_an_exit_code() {
        for (said, kind, code) in [
            ("a@b: Permission denied (publickey).\r\n", "refused", 3),
            ("@@@\nHost key verification failed.\n", "host_key_changed", 3),
            ("ssh: connect to host b port 22: Connection timed out\n", "timeout", 4),
            ("ssh: connect to host b port 22: Connection refused\n", "unreachable", 1),
            ("", "unreachable", 1),
        ] {
            let error = explain("desk", said);
            assert_eq!((&*error.kind, error.exit.code()), (kind, code), "{said}");
            assert!(error.message.starts_with("desk: ") && !error.hints.is_empty());
        }
    }
}

//! What ssh itself makes of a name (rule T24): `ssh -G` reads the configuration as ssh will read it, with all that only
//! it knows how to read.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// A name that nobody means: what ssh makes of it, it makes of all names. No dash, so that `*-*` means others.
const NOBODY: &str = "qzjxkvwqzjxkvwqzjxkv";
/// How long ssh may take for one name, and for all that are tried. `Match exec` runs programs.
const LIMIT: Duration = Duration::from_secs(5);
const LIMIT_OF_ALL: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Most of its answer that is read.
const MAX_ANSWER: u64 = 1 << 20;
/// What differs from name to name in every configuration, since ssh puts the name or a hash of it in its place.
const EXPANDED: [&str; 6] =
    ["host", "controlpath", "knownhostscommand", "localcommand", "remotecommand", "identityagent"];

/// Asks ssh about one configuration.
#[derive(Debug)]
pub(crate) struct Judge {
    config: Vec<u8>,
    /// What it makes of [`NOBODY`].
    everybody: OnceLock<Option<BTreeSet<String>>>,
    begun: OnceLock<Instant>,
}

impl Judge {
    pub(crate) fn of(config: Vec<u8>) -> Self {
        Self { config, everybody: OnceLock::new(), begun: OnceLock::new() }
    }

    /// True if ssh makes of this name what it does not make of every name. If there is no ssh, or it cannot read the
    /// configuration, no name means anything to it.
    pub(crate) fn means(&self, name: &str) -> bool {
        let begun = *self.begun.get_or_init(Instant::now);
        let everybody = self.everybody.get_or_init(|| self.ask(NOBODY));
        let Some(everybody) = everybody else { return false };
        if begun.elapsed() > LIMIT_OF_ALL {
            // Nobody can be kept waiting for ever; a name that was not looked at is not free.
            return true;
        }
        self.ask(name).is_none_or(|found| found != *everybody)
    }

    /// What holds for a name, without what always differs; `None` if ssh does not say.
    fn ask(&self, name: &str) -> Option<BTreeSet<String>> {
        let mut command = Command::new("ssh");
        command.args(["-G", "-F", "/dev/stdin", "--", name]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        let config = self.config.clone();
        let (mut stdin, mut answer) = (stdin, String::new());
        let write = thread::spawn(move || {
            // If it does not read, its end says so.
            let _ = stdin.write_all(&config);
        });
        let read = thread::spawn(move || {
            let read = stdout.take(MAX_ANSWER).read_to_string(&mut answer);
            read.ok().map(|_| answer)
        });
        let end = Instant::now() + LIMIT;
        let done = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status.success(),
                Ok(None) if Instant::now() < end => thread::sleep(LOOK_EVERY),
                _ => {
                    // It may be gone meanwhile.
                    let _ = child.kill();
                    let _ = child.wait();
                    return None;
                }
            }
        };
        // Both ends are closed with it, unless a program of the configuration goes on: then nobody waits for that.
        if !done || !read.is_finished() && !soon(&read) {
            return None;
        }
        drop(write);
        let answer = read.join().ok()??;
        let told = |line: &str| {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            if EXPANDED.contains(&key) {
                return None;
            }
            // Its own name, perhaps in a domain that all names get, says nothing.
            let rest =
                value.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('.'));
            match rest.filter(|_| key == "hostname") {
                Some(rest) => Some(format!("{key} {rest}")),
                None => Some(line.to_owned()),
            }
        };
        Some(answer.lines().filter_map(told).collect())
    }
}

fn soon<T>(thread: &thread::JoinHandle<T>) -> bool {
    let end = Instant::now() + LIMIT;
    while !thread.is_finished() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t24_ssh_itself_says_which_names_mean_something() {
        let config = "Host a* !ab\n User x\nMatch exec \"test %h = run\"\n Port 7\nMatch host d?sk\n HostName 10.0.0.1\n\
                      Host *\n HostName %h.example\n ControlPath ~/.ssh/%C-%h\n ServerAliveInterval 9\n";
        let judge = Judge::of(config.as_bytes().to_vec());
        for (name, means) in
            [("ac", true), ("ab", false), ("run", true), ("desk", true), ("free", false)]
        {
            assert_eq!(judge.means(name), means, "{name}");
        }
        // What it cannot read gives no name a meaning.
        assert!(!Judge::of(b"Nonsense yes\n".to_vec()).means("desk"));
    }
}

//! A running `kin`: started on a host, watched through its events, asked and answered.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

use crate::{Host, SHORT, Usage, wait::tick};

/// How questions are answered while events are awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// Not at all: the test does it.
    Nobody,
    /// `y` to every one.
    Yes,
    /// `n` to every one.
    No,
}

/// How a `kin` is to be started. [`KinCommand::start`] does it.
#[derive(Debug)]
pub struct KinCommand {
    program: PathBuf,
    name: String,
    home: PathBuf,
    /// What comes before the program on the command line.
    wrapper: Vec<OsString>,
    /// True if it is run by somebody who has an account, and so SSH files, of their own.
    has_account: bool,
    args: Vec<OsString>,
    json: bool,
    base: Command,
}

impl KinCommand {
    /// `kin sync ~/Shared --json --name <host>` on `host`.
    #[must_use]
    pub fn sync(program: &Path, host: &Host) -> Self {
        let base = host.command("env");
        Self {
            program: program.to_owned(),
            name: host.name().to_owned(),
            home: host.home().to_owned(),
            wrapper: Vec::new(),
            has_account: false,
            args: vec!["sync".into(), host.shared().into(), "--name".into(), host.name().into()],
            json: true,
            base,
        }
    }

    /// `kin` with exactly these arguments on `host`.
    #[must_use]
    pub fn on(program: &Path, host: &Host, args: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            name: host.name().to_owned(),
            home: host.home().to_owned(),
            wrapper: Vec::new(),
            has_account: false,
            args: args.iter().map(OsString::from).collect(),
            json: args.contains(&"--json"),
            base: host.command("env"),
        }
    }

    /// `kin` with exactly these arguments, on this machine, its home being `home`.
    #[must_use]
    pub fn local(program: &Path, home: &Path, args: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            name: "local".to_owned(),
            home: home.to_owned(),
            wrapper: Vec::new(),
            has_account: false,
            args: args.iter().map(OsString::from).collect(),
            json: args.contains(&"--json"),
            base: Command::new("env"),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// Uses a name of its own instead of the host's, or none at all where it is empty.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        if let Some(at) = self.args.iter().position(|a| a == "--name") {
            if name.is_empty() {
                self.args.drain(at..at + 2);
            } else {
                self.args[at + 1] = name.into();
            }
        }
        self
    }

    /// Shares another directory than `~/Shared`.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        if let Some(at) = self.args.iter().position(|a| a == "sync") {
            self.args[at + 1] = dir.into();
        }
        self
    }

    /// Speaks to a person: no `--json`.
    #[must_use]
    pub fn for_people(mut self) -> Self {
        self.json = false;
        self
    }

    /// Starts the program through another one (`setpriv …`), which must replace itself by it.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(OsString::from).collect();
        self
    }

    /// Starts it as the person who has an account on the host.
    #[must_use]
    pub fn by(mut self, account: &crate::sshd::Account<'_>) -> Self {
        self.has_account = true;
        self.wrapper = account.wrapper().into_iter().map(OsString::from).collect();
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Kin {
        // `env -i` replaces itself by the program: nothing of the tester's own settings leaks in.
        self.base.arg("-i");
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        for (key, value) in [("HOME", self.home.as_os_str()), ("PATH", path.as_os_str())] {
            let mut pair = OsString::from(key);
            pair.push("=");
            pair.push(value);
            self.base.arg(pair);
        }
        self.base.args(["RUST_BACKTRACE=1", "LANG=C.UTF-8"]);
        if !self.has_account {
            // The tester's own keys are nobody's business here.
            let mut pair = OsString::from("KIN_SSH_HOME=");
            pair.push(&self.home);
            self.base.arg(pair);
        }
        if let Ok(level) = std::env::var("KIN_LAB_LOG") {
            self.base.arg(format!("RUST_LOG={level}"));
        }
        self.base.args(&self.wrapper).arg(&self.program).args(&self.args);
        if self.json && !self.args.iter().any(|a| a == "--json") {
            self.base.arg("--json");
        }
        let mut child = self
            .base
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", self.program.display()));
        let (sender, events) = channel();
        let out = child.stdout.take().expect("piped above");
        let json = self.json;
        std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).into_owned();
                let value = if json {
                    serde_json::from_str(&text)
                        .unwrap_or_else(|_| serde_json::json!({"event": "not json", "line": text}))
                } else {
                    serde_json::json!({"event": "text", "line": text})
                };
                if sender.send((Instant::now(), value)).is_err() {
                    break;
                }
            }
        });
        let mut err = child.stderr.take().expect("piped above");
        let said = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = err.read(&mut buffer) {
                    said.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&buffer[..n]);
                }
            }
        });
        Kin {
            name: self.name,
            stdin: child.stdin.take(),
            child,
            started: Instant::now(),
            events,
            ended: false,
            seen: Vec::new(),
            cursor: 0,
            answers: Answers::Nobody,
            said,
            status: None,
        }
    }
}

/// A running (or ended) `kin`. Killed on drop; when a test fails, its story is printed.
#[derive(Debug)]
pub struct Kin {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    started: Instant,
    events: Receiver<(Instant, Value)>,
    /// True when its standard output is closed.
    ended: bool,
    seen: Vec<(Instant, Value)>,
    /// Up to where [`Self::expect`] has read.
    cursor: usize,
    answers: Answers,
    said: Arc<Mutex<Vec<u8>>>,
    status: Option<ExitStatus>,
}

impl Kin {
    /// From now on questions are answered so while events are awaited. Those already seen and passed
    /// over are not.
    #[must_use]
    pub fn answering(mut self, answers: Answers) -> Self {
        self.answers = answers;
        self
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Reads what has been said until now, waiting at most `patience` for the first event. Answers
    /// questions as told. True if anything came.
    pub fn pump(&mut self, patience: Duration) -> bool {
        let mut any = false;
        let mut patience = patience;
        loop {
            match self.events.recv_timeout(patience) {
                Ok((at, value)) => {
                    if value["event"] == "confirm" && self.answers != Answers::Nobody {
                        let yes = self.answers == Answers::Yes;
                        self.answer(&value, yes);
                    }
                    self.seen.push((at, value));
                    any = true;
                    patience = Duration::ZERO;
                }
                Err(RecvTimeoutError::Timeout) => return any,
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return any;
                }
            }
        }
    }

    /// The next event called `name` that no earlier `expect` has passed.
    ///
    /// # Panics
    /// If it does not come within [`SHORT`], or the process ends before.
    #[track_caller]
    pub fn expect(&mut self, name: &str) -> Value {
        self.expect_where(name, SHORT, |event| event["event"] == name)
    }

    /// The next event for which `wanted` holds; `what` says so in words.
    ///
    /// # Panics
    /// If it does not come within `limit`, or the process ends before.
    #[track_caller]
    pub fn expect_where(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            while let Some((_, event)) = self.seen.get(self.cursor) {
                self.cursor += 1;
                if wanted(event) {
                    return event.clone();
                }
            }
            assert!(!self.ended, "{} ended before: {what}", self.name);
            assert!(Instant::now() < deadline, "{}: not within {limit:?}: {what}", self.name);
            self.pump(Duration::from_millis(20));
        }
    }

    /// Everything it said on standard output so far, as events.
    pub fn seen(&mut self) -> impl Iterator<Item = &Value> {
        self.pump(Duration::ZERO);
        self.seen.iter().map(|(_, event)| event)
    }

    /// When it first said something for which `wanted` holds.
    #[must_use]
    pub fn when(&self, wanted: impl Fn(&Value) -> bool) -> Option<Instant> {
        self.seen.iter().find(|(_, event)| wanted(event)).map(|(at, _)| *at)
    }

    /// When it last said an event called `name`.
    #[must_use]
    pub fn when_last(&self, name: &str) -> Option<Instant> {
        self.seen.iter().rev().find(|(_, event)| event["event"] == name).map(|(at, _)| *at)
    }

    /// How many events called `name` there were.
    pub fn count(&mut self, name: &str) -> usize {
        self.seen().filter(|event| event["event"] == name).count()
    }

    /// The latest event called `name`.
    pub fn latest(&mut self, name: &str) -> Option<Value> {
        self.pump(Duration::ZERO);
        self.seen.iter().rev().map(|(_, e)| e).find(|e| e["event"] == name).cloned()
    }

    /// The latest word is that it agrees with `peers` others: no change was seen after.
    pub fn agrees_with(&mut self, peers: u64) -> bool {
        self.latest("in_sync").is_some_and(|event| event["peers"] == peers)
    }

    /// Answers a question.
    ///
    /// # Panics
    /// If standard input is closed.
    pub fn answer(&mut self, question: &Value, yes: bool) {
        let word = if yes { "y" } else { "n" };
        self.type_line(&format!("{word} {}", question["id"]));
    }

    /// Types a line. One that has ended reads nothing: no error.
    pub fn type_line(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// Closes its standard input.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// What it said on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Sends a signal. One that has ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        if self.status.is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It is ours and not yet reaped, so the id is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ctrl-C.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.wait(SHORT);
    }

    /// SIGSTOP.
    pub fn suspend(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// True if it has ended; its status is not collected yet.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        if self.status.is_some() {
            return true;
        }
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return true;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it has not ended within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let deadline = Instant::now() + limit;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "{} has not ended within {limit:?}", self.name);
            self.pump(Duration::ZERO);
            tick();
        }
        let status = self.child.wait().expect("it is ours and has ended");
        while !self.ended {
            self.pump(Duration::from_millis(50));
        }
        self.status = Some(status);
        status
    }

    /// Waits for its end and returns its exit code, `None` if a signal ended it.
    ///
    /// # Panics
    /// If it has not ended within [`SHORT`].
    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        self.wait(SHORT).code()
    }

    /// Ctrl-C, and a clean end.
    ///
    /// # Panics
    /// If it does not end by itself with exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.interrupt();
        let code = self.exit_code();
        assert_eq!(code, Some(0), "{} after Ctrl-C", self.name);
    }

    /// Bytes it has read by read(2) and its like since it was started: files and libraries, and the
    /// network as far as it uses read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid())).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("rchar: "))
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    }

    /// What it has cost so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid()).unwrap_or_default()
    }

    fn story(&self) -> String {
        let mut story = format!("=== {} (pid {})\n", self.name, self.child.id());
        let skip = self.seen.len().saturating_sub(60);
        if skip > 0 {
            let _ = writeln!(story, "... {skip} earlier events");
        }
        for (at, event) in self.seen.iter().skip(skip) {
            let after = at.saturating_duration_since(self.started);
            let _ = writeln!(story, "{:9.3} {event}", after.as_secs_f64());
        }
        let stderr = self.stderr();
        let lines: Vec<_> = stderr.lines().collect();
        for line in &lines[lines.len().saturating_sub(80)..] {
            let _ = writeln!(story, "  stderr: {line}");
        }
        if let Some(status) = self.status {
            let _ = writeln!(story, "  {status}");
        }
        story
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            self.pump(Duration::ZERO);
            let _ = writeln!(std::io::stderr(), "{}", self.story());
        }
    }
}

/// Pumps all of `kins` (answering as each was told) until `condition` holds.
///
/// # Panics
/// If it does not within `limit`; the message names `what`.
#[track_caller]
pub fn pump_until(
    kins: &mut [&mut Kin],
    limit: Duration,
    what: &str,
    mut condition: impl FnMut(&mut [&mut Kin]) -> bool,
) {
    let deadline = Instant::now() + limit;
    loop {
        for kin in kins.iter_mut() {
            kin.pump(Duration::ZERO);
        }
        if condition(kins) {
            return;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tick();
    }
}

//! A device under torture: a process of this very program.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use serde_json::Value;

/// Lines of its story that are kept.
const STORY: usize = 400;

/// How a device is started, each time.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    /// The other devices' ports.
    pub(super) others: Vec<u16>,
    pub(super) passphrase: PathBuf,
    /// An empty directory instead of the user's configuration.
    pub(super) home: PathBuf,
}

/// What a process said so far.
#[derive(Default, Debug)]
pub(super) struct Said {
    /// Peers with which it agreed by its latest word.
    pub(super) agrees_with: Option<u64>,
    /// Lines it has said.
    pub(super) lines: u64,
    /// Admission is closed until a line comes in.
    closed: bool,
    /// What was said last.
    pub(super) story: std::collections::VecDeque<String>,
}

/// A running device. Killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Said>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// If this program cannot be started once more.
    pub(super) fn start(device: &Device) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("sync")
            .arg(&device.folder)
            .args(["--name", &device.name, "--no-discovery", "--json"])
            .args(["--port", &device.port.to_string()])
            // Nobody is there to agree to deletions.
            .args(["--max-deletes", "100%"])
            .arg("--passphrase-file")
            .arg(&device.passphrase)
            .env("KIN_HOME", &device.home);
        for port in &device.others {
            command.args(["--peer", &format!("127.0.0.1:{port}")]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said = Arc::new(Mutex::new(Said::default()));
        if let Some(out) = child.stdout.take() {
            listen(out, &said);
        }
        if let Some(err) = child.stderr.take() {
            listen(err, &said);
        }
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, said })
    }

    /// kill -9.
    pub(super) fn kill(mut self) {
        self.end();
    }

    /// Looks at what it said.
    pub(super) fn said<T>(&self, look: impl FnOnce(&Said) -> T) -> T {
        look(&self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True if it has ended by itself, which it never should.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Peers that are killed while they prove that they know the passphrase count as failed attempts: after
    /// some, a person is asked to let others try again.
    pub(super) fn reopen(&mut self) {
        let closed = {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut said.closed)
        };
        if closed && let Some(stdin) = &mut self.stdin {
            // One that has ended reads nothing.
            let _ = stdin.write_all(b"\n");
        }
    }

    fn end(&mut self) {
        // It is ours, and not yet waited for: the process id is its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn listen(from: impl io::Read + Send + 'static, said: &Arc<Mutex<Said>>) {
    let said = Arc::clone(said);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.lines += 1;
            match event["event"].as_str() {
                Some("in_sync") => said.agrees_with = event["peers"].as_u64(),
                Some("error") if event["kind"] == "admission_closed" => said.closed = true,
                _ => {}
            }
            said.story.push_back(line);
            if said.story.len() > STORY {
                said.story.pop_front();
            }
        }
    });
}

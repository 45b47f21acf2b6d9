//! One seed: devices start, users edit, processes are killed and come back; in the end all must agree and
//! nothing may be missing.

use std::{
    collections::BTreeSet,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    child::{Device, Running},
    edits::{self, Edit, Rng},
    folders,
    oracle::{self, Written},
};

/// How long nothing may be said, with trees that differ, before devices are taken not to agree.
const STANDSTILL: Duration = Duration::from_secs(90);
/// How often trees are compared while devices come to rest.
const LOOK: Duration = Duration::from_millis(200);

/// What a seed came to.
#[derive(Default, Debug)]
pub(super) struct Outcome {
    pub(super) edits: u64,
    pub(super) kills: u64,
    pub(super) paths: usize,
    pub(super) copies: usize,
    /// What is wrong; empty if all is well.
    pub(super) problems: Vec<String>,
}

/// The devices of one seed, in a directory of their own.
pub(super) struct History<'a> {
    dir: &'a Path,
    rng: Rng,
    devices: Vec<Device>,
    running: Vec<Option<Running>>,
    written: Written,
    outcome: Outcome,
    log: Vec<String>,
    stop: &'a AtomicBool,
}

impl<'a> History<'a> {
    /// Makes what a seed needs in `dir`, which is new and empty.
    ///
    /// # Errors
    /// If the disk, the network or the source of random numbers does not let it.
    pub(super) fn new(
        dir: &'a Path,
        seed: u64,
        devices: usize,
        stop: &'a AtomicBool,
    ) -> io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let passphrase = dir.join("passphrase");
        let words: Vec<String> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        folders::write_secret(&passphrase, &format!("{}\n", words.concat()))?;
        let home = dir.join("home");
        folders::make(&home)?;
        // Held all at once, so that they differ, and free again when devices start.
        let ports = (0..devices).map(|_| TcpListener::bind(("127.0.0.1", 0)));
        let ports = ports.collect::<io::Result<Vec<_>>>()?;
        let ports = ports.iter().map(|port| Ok(port.local_addr()?.port()));
        let ports = ports.collect::<io::Result<Vec<u16>>>()?;
        let mut made = Vec::new();
        for (number, port) in ports.iter().copied().enumerate() {
            let folder = dir.join(format!("{number}"));
            folders::make(&folder)?;
            made.push(Device {
                name: format!("device-{number}"),
                folder,
                port,
                others: ports.iter().copied().filter(|other| *other != port).collect(),
                passphrase: passphrase.clone(),
                home: home.clone(),
            });
        }
        Ok(Self {
            dir,
            rng: Rng::new(seed),
            running: made.iter().map(|_| None).collect(),
            devices: made,
            written: Written::default(),
            outcome: Outcome::default(),
            log: Vec::new(),
            stop,
        })
    }

    /// Plays it to its end. `None` if it was interrupted.
    ///
    /// # Errors
    /// If processes cannot be started or files not be read.
    pub(super) fn play(mut self) -> io::Result<Option<Outcome>> {
        let steps = 60 + self.rng.below(120);
        for _ in 0..self.rng.below(20) {
            self.edit();
        }
        for number in 0..self.devices.len() {
            self.start(number)?;
        }
        for _ in 0..steps {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.step()?;
        }
        for number in 0..self.devices.len() {
            self.start(number)?;
        }
        if !self.agree()? {
            return Ok(None);
        }
        // Killed once more, so that nothing is judged that is not on the disk.
        for running in &mut self.running {
            if let Some(running) = running.take() {
                running.kill();
            }
        }
        let found: io::Result<Vec<_>> =
            self.devices.iter().map(|device| folders::read(&device.folder)).collect();
        let found = found?;
        self.outcome.problems.extend(oracle::judge(&self.written, &found));
        self.outcome.problems.truncate(20);
        let paths: BTreeSet<&PathBuf> =
            found.iter().flat_map(|folder| folder.tree.keys()).collect();
        let is_copy = |path: &&&PathBuf| path.to_string_lossy().contains(".conflict-");
        self.outcome.copies = paths.iter().filter(is_copy).count();
        self.outcome.paths = paths.len();
        if !self.outcome.problems.is_empty() {
            self.tell_the_story()?;
        }
        Ok(Some(self.outcome))
    }

    /// One thing happens.
    fn step(&mut self) -> io::Result<()> {
        let number = self.rng.index(self.devices.len());
        match self.rng.below(10) {
            0..=2 => self.kill(number),
            3..=5 => self.start(number)?,
            _ => {
                // Edits come in bursts, so that they meet.
                for _ in 0..1 + self.rng.below(6) {
                    self.edit();
                }
            }
        }
        let pause = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(10),
            2 => self.rng.below(80),
            _ => self.rng.below(400),
        };
        thread::park_timeout(Duration::from_millis(pause));
        for running in self.running.iter_mut().flatten() {
            running.reopen();
        }
        Ok(())
    }

    fn edit(&mut self) {
        let number = self.rng.index(self.devices.len());
        let edit = edits::random(&mut self.rng, self.outcome.edits);
        self.carry_out(number, &edit);
        // Now and then somebody else writes at the same place at the same time.
        if let Some(at) = edit.written_at()
            && self.rng.below(4) == 0
        {
            let other = (number + 1) % self.devices.len();
            let bytes = edits::contents(&mut self.rng, self.outcome.edits);
            self.carry_out(other, &Edit::Write(at.to_owned(), bytes));
        }
    }

    fn carry_out(&mut self, number: usize, edit: &Edit) {
        self.outcome.edits += 1;
        let done = edit.carry_out(&self.devices[number].folder, &mut self.written);
        let done = done.map_or_else(|error| error.to_string(), |()| "done".to_owned());
        self.note(&format!("{number} {}: {done}", short(edit)));
    }

    fn kill(&mut self, number: usize) {
        if let Some(running) = self.running[number].take() {
            let said = running.said(|said| said.lines);
            running.kill();
            self.outcome.kills += 1;
            self.note(&format!("{number} is killed after {said} lines"));
        }
    }

    fn start(&mut self, number: usize) -> io::Result<()> {
        if self.running[number].is_none() {
            self.running[number] = Some(Running::start(&self.devices[number])?);
            self.note(&format!("{number} starts"));
        }
        Ok(())
    }

    /// Waits until all devices say that they agree, and their trees are equal. False if interrupted.
    fn agree(&mut self) -> io::Result<bool> {
        let others = self.devices.len() as u64 - 1;
        let (mut said, mut since) = (0, Instant::now());
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let mut all = true;
            let mut now = 0;
            for (number, running) in self.running.iter_mut().enumerate() {
                let Some(running) = running else { continue };
                running.reopen();
                if running.has_ended() {
                    let last = running.said(|said| said.story.back().cloned()).unwrap_or_default();
                    let problem = format!("device {number} has ended by itself: {last}");
                    self.outcome.problems.push(problem);
                    return Ok(true);
                }
                all &= running.said(|said| said.agrees_with == Some(others));
                now += running.said(|said| said.lines);
            }
            if all && self.are_equal() {
                return Ok(true);
            }
            if now != said {
                (said, since) = (now, Instant::now());
            }
            if since.elapsed() > STANDSTILL {
                let seconds = STANDSTILL.as_secs();
                let problem = format!("the devices do not agree: nothing happened for {seconds} s");
                self.outcome.problems.push(problem);
                return Ok(true);
            }
            thread::park_timeout(LOOK);
        }
    }

    /// True if the trees are equal now. One that cannot be read is being changed.
    fn are_equal(&self) -> bool {
        let found: io::Result<Vec<_>> =
            self.devices.iter().map(|device| folders::read(&device.folder)).collect();
        found.is_ok_and(|found| oracle::differences(&found).is_empty())
    }

    fn note(&mut self, line: &str) {
        self.log.push(line.to_owned());
    }

    /// Leaves behind what happened, beside the folders.
    fn tell_the_story(&self) -> io::Result<()> {
        let mut story = self.outcome.problems.join("\n");
        story.push_str("\n\n");
        story.push_str(&self.log.join("\n"));
        story.push('\n');
        folders::write_secret(&self.dir.join("story.txt"), &story)
    }
}

/// An edit in one line.
fn short(edit: &Edit) -> String {
    let text = |bytes: &[u8]| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).trim().to_owned();
        format!("{start:?}, {} bytes", bytes.len())
    };
    match edit {
        Edit::Write(at, bytes) => format!("writes {} ({})", at.display(), text(bytes)),
        Edit::Save(at, bytes) => format!("saves {} ({})", at.display(), text(bytes)),
        Edit::Append(at, bytes) => format!("adds to {} ({})", at.display(), text(bytes)),
        other => format!("{other:?}"),
    }
}

//! A plan: everything that happens to a world from outside, step by step, as data, so that a history that
//! fails can be made shorter and shown.

use std::fmt;

use crate::{
    disk::{Failing, Fold},
    fault::Faults,
    history::Edit,
};

/// What happens, and when.
#[derive(Clone, Debug)]
pub struct Step {
    /// Milliseconds since the start.
    pub at: u64,
    /// What.
    pub what: Action,
}

/// What a user does to a path that is just being changed.
#[derive(Clone, Debug)]
pub enum Way {
    /// Writes the file in place.
    Write(Vec<u8>),
    /// Renames a new file over it.
    Save(Vec<u8>),
    /// Removes it, and what is below it.
    Remove,
    /// Renames it.
    Rename(String),
    /// Replaces it by a directory with a file in it.
    BecomeDir(Vec<u8>),
}

impl Way {
    /// What that means for a path.
    #[must_use]
    pub fn edits(&self, path: &str) -> Vec<Edit> {
        let path = path.to_owned();
        match self {
            Self::Write(bytes) => vec![Edit::Write(path, bytes.clone())],
            Self::Save(bytes) => vec![Edit::SaveByRename(path, bytes.clone())],
            Self::Remove => vec![Edit::Remove(path)],
            Self::Rename(to) => vec![Edit::Rename(path, to.clone())],
            Self::BecomeDir(bytes) => {
                let below = format!("{path}/inside");
                vec![Edit::Remove(path), Edit::Write(below, bytes.clone())]
            }
        }
    }
}

/// Something that happens to a world.
#[derive(Clone, Debug)]
pub enum Action {
    /// A user does something.
    Edit(usize, Edit),
    /// A user does something just before a device's engine makes its nth call on the disk from now.
    Meddle(usize, u64, Edit),
    /// A user does something to a path just before a device's engine changes that very path in the tree,
    /// after so many such changes more.
    Ambush(usize, u64, Way),
    /// An editor opens a file and keeps it open.
    Hold(usize, String),
    /// The editor writes to what it has kept open.
    WriteHeld(usize, String, Vec<u8>),
    /// A device starts.
    Start(usize),
    /// A device stops in good order.
    Stop(usize),
    /// A device's process dies: now, or just before its nth call on the disk from now. `power`: and its
    /// machine loses what was not synced.
    Die {
        /// Which device.
        device: usize,
        /// Before which call.
        nth: Option<u64>,
        /// Whether power is lost too.
        power: bool,
    },
    /// Two devices are linked, from now on whenever both run.
    Connect(usize, usize),
    /// A link is cut; the second notices that many milliseconds later.
    Cut(usize, usize, u64),
    /// Messages between two devices take up to that many milliseconds longer.
    Slow(usize, usize, u64),
    /// One in so many of a disk's calls fail from now on; `None`: all work again.
    DiskFails(usize, Option<(Failing, u64)>),
    /// The watcher loses everything from now on.
    Deaf(usize),
    /// The watcher works again. True if it says that it has lost events.
    Hears(usize, bool),
    /// The wall clock is that many milliseconds off from now on.
    Clock(usize, i64),
    /// A copy of the index is put away.
    BackUp(usize),
    /// The process dies, and the copy is put back, or no index at all if there is none. True if the machine
    /// does not look any different for it (rule E1).
    Restore(usize, bool),
    /// The process dies, and the whole machine is set back to when the copy was made.
    RollBack(usize),
    /// The second device's process dies, and it gets a copy of the first one's index.
    CopyState(usize, usize),
    /// The process dies, and its index is deleted.
    DeleteIndex(usize),
    /// An admin makes a device something else in the group; nothing if the admin runs no more.
    Member(usize, usize, Role),
    /// A device takes a new key; nothing if it is no member.
    Rotate(usize),
}

/// What a device is in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// No member: put out, or not admitted yet.
    Out,
    /// Reads.
    Reader,
    /// Reads and writes.
    Writer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "no member",
            Self::Reader => "a reader",
            Self::Writer => "a writer",
        })
    }
}

impl Action {
    /// The devices it is about.
    #[must_use]
    pub fn devices(&self) -> (usize, Option<usize>) {
        match self {
            Self::Edit(device, _)
            | Self::Meddle(device, ..)
            | Self::Ambush(device, ..)
            | Self::Hold(device, _)
            | Self::WriteHeld(device, ..)
            | Self::Start(device)
            | Self::Stop(device)
            | Self::Die { device, .. }
            | Self::DiskFails(device, _)
            | Self::Deaf(device)
            | Self::Hears(device, _)
            | Self::Clock(device, _)
            | Self::BackUp(device)
            | Self::Restore(device, _)
            | Self::RollBack(device)
            | Self::DeleteIndex(device)
            | Self::Rotate(device) => (*device, None),
            Self::Connect(a, b) | Self::Cut(a, b, _) | Self::Slow(a, b, _) => (*a, Some(*b)),
            Self::CopyState(from, to) => (*from, Some(*to)),
            Self::Member(by, of, _) => (*by, Some(*of)),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edit(device, edit) => write!(f, "user {device}: {edit}"),
            Self::Meddle(device, nth, edit) => {
                write!(f, "user {device}, before call {nth} of the engine from now: {edit}")
            }
            Self::Ambush(device, after, way) => {
                let edits: Vec<_> = way.edits("it").iter().map(ToString::to_string).collect();
                let edits = edits.join(", ");
                write!(
                    f,
                    "user {device}, before the engine's change {after} from now in the tree: {edits}"
                )
            }
            Self::Hold(device, path) => write!(f, "user {device}: open {path} and keep it open"),
            Self::WriteHeld(device, path, bytes) => {
                let text = String::from_utf8_lossy(bytes);
                write!(f, "user {device}: write to what was opened as {path} ({text})")
            }
            Self::Start(device) => write!(f, "device {device} starts"),
            Self::Stop(device) => write!(f, "device {device} stops"),
            Self::Die { device, nth, power } => {
                let what = if *power { "loses power" } else { "is killed" };
                write!(f, "device {device} {what}")?;
                nth.map_or(Ok(()), |nth| write!(f, ", before its call {nth} from now"))
            }
            Self::Connect(a, b) => write!(f, "devices {a} and {b} are linked"),
            Self::Cut(a, b, 0) => write!(f, "the link of {a} and {b} is cut"),
            Self::Cut(a, b, late) => {
                write!(f, "the link of {a} and {b} is cut; {b} notices {late} ms later")
            }
            Self::Slow(a, b, ms) => write!(f, "messages of {a} and {b} take up to {ms} ms longer"),
            Self::DiskFails(device, None) => write!(f, "the disk of {device} works again"),
            Self::DiskFails(device, Some((failing, one_in))) => {
                write!(f, "the disk of {device}: {failing}, one call in {one_in}")
            }
            Self::Deaf(device) => write!(f, "the watcher of {device} loses everything from now on"),
            Self::Hears(device, true) => {
                write!(f, "the watcher of {device} works again and says what it lost")
            }
            Self::Hears(device, false) => {
                write!(f, "the watcher of {device} works again and says nothing")
            }
            Self::Clock(device, ms) => write!(f, "the clock of {device} is {ms} ms off"),
            Self::BackUp(device) => write!(f, "the index of {device} is backed up"),
            Self::Restore(device, true) => {
                write!(f, "device {device} dies; its index is set back in place")
            }
            Self::Restore(device, false) => {
                write!(f, "device {device} dies; its index is restored from the backup")
            }
            Self::RollBack(device) => {
                write!(f, "device {device} dies; disk and index are set back to the backup")
            }
            Self::CopyState(from, to) => {
                write!(f, "device {to} dies and gets a copy of the index of {from}")
            }
            Self::DeleteIndex(device) => write!(f, "device {device} dies; its index is deleted"),
            Self::Member(by, of, role) => write!(f, "device {by} makes {of} {role}"),
            Self::Rotate(device) => write!(f, "device {device} takes a new key"),
        }
    }
}

/// A whole history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides delays, ids and what a loss of power leaves.
    pub seed: u64,
    /// The kinds of faults in it.
    pub faults: Faults,
    /// What each device's disk takes for the same name; a device each.
    pub folds: Vec<Fold>,
    /// What the devices are in their group at first, a device each; empty in a session.
    pub roles: Vec<Role>,
    /// Devices that take no part, so that a history can be made shorter without naming others anew.
    pub absent: Vec<usize>,
    /// What happens, in any order.
    pub steps: Vec<Step>,
    /// When all faults end, every device runs, and links are up.
    pub end: u64,
    /// The links at the end.
    pub links: Vec<(usize, usize)>,
    /// When years pass, if they do. What is to happen later does so after them.
    pub years: Option<u64>,
    /// Devices that are away meanwhile.
    pub away: Vec<usize>,
}

/// How long it takes in a world until years have passed, in milliseconds.
pub const YEARS_TAKE: u64 = 60_000;

impl Plan {
    /// How many devices take part.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.folds.len() - self.absent.len()
    }

    /// When a step really happens.
    #[must_use]
    pub fn time_of(&self, at: u64) -> u64 {
        if self.years.is_some_and(|years| at > years) { at + YEARS_TAKE } else { at }
    }

    /// How many times a user does something.
    #[must_use]
    pub fn edits(&self) -> u64 {
        let is_edit = |step: &&Step| {
            matches!(
                step.what,
                Action::Edit(..) | Action::Meddle(..) | Action::Ambush(..) | Action::WriteHeld(..)
            )
        };
        self.steps.iter().filter(is_edit).count() as u64
    }

    /// True if a device takes part.
    #[must_use]
    pub fn has(&self, device: usize) -> bool {
        !self.absent.contains(&device)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taking_part = (0..self.folds.len()).filter(|device| self.has(*device));
        let names: Vec<_> = taking_part.map(|device| device.to_string()).collect();
        writeln!(f, "  devices {}, faults: {}", names.join(", "), self.faults)?;
        for (device, fold) in self.folds.iter().enumerate() {
            if *fold != Fold::None && self.has(device) {
                writeln!(f, "  the disk of {device} {fold}")?;
            }
        }
        for (device, role) in self.roles.iter().enumerate() {
            if self.has(device) {
                writeln!(f, "  {device} is {role} at first")?;
            }
        }
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|step| step.at);
        for step in steps {
            writeln!(f, "  {:>6} ms  {}", self.time_of(step.at), step.what)?;
        }
        if let Some(at) = self.years {
            writeln!(f, "  {at:>6} ms  faults pause, and years pass; away are {:?}", self.away)?;
        }
        let links = self.links.iter().filter(|(a, b)| self.has(*a) && self.has(*b));
        let links: Vec<_> = links.map(|(a, b)| format!("{a}-{b}")).collect();
        let end = self.time_of(self.end);
        write!(f, "  {end:>6} ms  no more faults, all run, links: {}", links.join(", "))
    }
}

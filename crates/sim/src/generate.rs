//! Plans made up from seeds.

use crate::{
    disk::{Failing, Fold},
    fault::{Fault, Faults},
    history::Edit,
    plan::{Action, Plan, Role, Step, Way},
    rng::Rng,
};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "notes.txt", "Ä"];
/// With these, names meet on disks that take them for the same.
const TWINS: [&str; 7] = ["a", "A", "b", "B", "notes.txt", "Ä", "A\u{308}"];

/// Hours that clocks may be apart.
const CLOCK_HOURS: u64 = 48;

/// Sets who is a member apart from all else that is drawn from a seed, so that old seeds keep their histories.
const MEMBERS: u64 = 0x6d65_6d62_6572_7321;
/// The same of years that pass.
const YEARS: u64 = 0x7965_6172_7321_2121;
/// The same of keys.
const KEYS: u64 = 0x6b65_7973_2121_2121;

struct Maker {
    rng: Rng,
    faults: Faults,
    steps: Vec<Step>,
    contents: u64,
    devices: usize,
    end: u64,
}

/// The plan of a seed, in a world that may have these kinds of faults. Each history has some of them.
#[must_use]
pub fn plan(seed: u64, allowed: Faults) -> Plan {
    let mut rng = Rng::new(seed);
    let devices = usize::try_from(2 + rng.below(4)).unwrap_or(2);
    let end = 500 + rng.below(6_000);
    let members = allowed.has(Fault::Members);
    let years = members && allowed.has(Fault::Years);
    let keys = members && allowed.has(Fault::Keys);
    let allowed = allowed.without(Fault::Members).without(Fault::Years).without(Fault::Keys);
    let mut faults: Faults = allowed.iter().filter(|_| rng.one_in(3)).collect();
    if faults == Faults::NONE && allowed != Faults::NONE && !rng.one_in(8) {
        let kinds: Vec<_> = allowed.iter().collect();
        faults = std::iter::once(*rng.pick(&kinds)).collect();
    }
    if members {
        faults = faults.iter().chain([Fault::Members]).collect();
    }
    let mut maker = Maker { rng, faults, steps: Vec::new(), contents: 0, devices, end };
    maker.users();
    let links = maker.links();
    let folds = maker.folds();
    for fault in faults.iter() {
        maker.fault(fault);
    }
    let roles = if members { maker.members(seed) } else { Vec::new() };
    let (years, away) = if years { maker.years(seed) } else { (None, Vec::new()) };
    if keys {
        maker.keys(seed);
    }
    let Maker { mut steps, faults, .. } = maker;
    steps.sort_by_key(|step| step.at);
    // Everything begun before has had its time by then.
    let (absent, end) = (Vec::new(), end + 4_000);
    Plan { seed, faults, folds, roles, absent, steps, end, links, years, away }
}

impl Maker {
    fn at(&mut self, at: u64, what: Action) {
        self.steps.push(Step { at, what });
    }

    fn device(&mut self) -> usize {
        usize::try_from(self.rng.below(self.devices as u64)).unwrap_or(0)
    }

    fn time(&mut self) -> u64 {
        // Things come in bursts, so that they meet.
        self.rng.below(self.end) / 300 * 300 + self.rng.below(20)
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.rng.below(3);
        let names: &[&str] = if self.faults.has(Fault::Fold) { &TWINS } else { &NAMES };
        (0..depth).map(|_| *self.rng.pick(names)).collect::<Vec<_>>().join("/")
    }

    fn content(&mut self) -> Vec<u8> {
        self.contents += 1;
        format!("content {}", self.contents).into_bytes()
    }

    fn edit(&mut self) -> Edit {
        let path = self.path();
        let mut bytes = self.content();
        match self.rng.below(24) {
            0..=7 => {
                if self.rng.one_in(250) {
                    // Large enough to be cut into chunks, and unlike any other. They cost most of the time.
                    let mut filler = Rng::new(self.contents);
                    while bytes.len() < 1_200_000 {
                        bytes.extend_from_slice(&filler.next().to_le_bytes());
                    }
                }
                Edit::Write(path, bytes)
            }
            8..=10 => Edit::SaveByRename(path, bytes),
            11 => Edit::Append(path, bytes),
            12..=15 => Edit::Remove(path),
            16..=18 => Edit::Rename(path, self.path()),
            19 | 20 => Edit::MakeDir(path),
            21 | 22 => Edit::Chmod(path, if self.rng.one_in(2) { 0o755 } else { 0o700 }),
            _ => Edit::Link(path, self.path()),
        }
    }

    fn users(&mut self) {
        // What is on the disks before anything starts.
        for device in 0..self.devices {
            for _ in 0..self.rng.below(6) {
                let edit = self.edit();
                self.at(0, Action::Edit(device, edit));
            }
        }
        for device in 0..self.devices {
            let start = self.rng.below(1_000);
            self.at(start, Action::Start(device));
            for _ in 0..self.rng.below(3) {
                let stop = self.rng.below(self.end);
                self.at(stop, Action::Stop(device));
                let start = stop + 1 + self.rng.below(2_000);
                self.at(start, Action::Start(device));
            }
        }
        for _ in 0..(10 + self.rng.below(60)) {
            let (device, time, edit) = (self.device(), self.time(), self.edit());
            self.at(time, Action::Edit(device, edit));
        }
    }

    /// A full mesh now and then, otherwise any way that holds together; links come and go.
    fn links(&mut self) -> Vec<(usize, usize)> {
        let mesh = self.rng.one_in(3);
        let mut links = Vec::new();
        for b in 1..self.devices {
            let must = usize::try_from(self.rng.below(b as u64)).unwrap_or(0);
            for a in 0..b {
                if !(mesh || a == must || self.rng.one_in(4)) {
                    continue;
                }
                links.push((a, b));
                let up = self.rng.below(2_000);
                self.at(up, Action::Connect(a, b));
                for _ in 0..self.rng.below(3) {
                    let cut = self.rng.below(self.end);
                    self.at(cut, Action::Cut(a, b, 0));
                    let up = cut + 1 + self.rng.below(2_000);
                    self.at(up, Action::Connect(a, b));
                }
            }
        }
        links
    }

    fn folds(&mut self) -> Vec<Fold> {
        let mut folds = vec![Fold::None; self.devices];
        if self.faults.has(Fault::Fold) {
            for fold in &mut folds {
                *fold = *self.rng.pick(&[Fold::None, Fold::Case, Fold::Forms]);
            }
            let one = self.device();
            folds[one] = *self.rng.pick(&[Fold::Case, Fold::Forms]);
        }
        folds
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Links => self.broken_links(),
            Fault::Crash => self.deaths(false),
            Fault::Power => self.deaths(true),
            Fault::Disk => {
                for _ in 0..=self.rng.below(3) {
                    let all =
                        [Failing::Full, Failing::Broken, Failing::NoHandles, Failing::ReadOnly];
                    let failing = *self.rng.pick(&all);
                    let one_in = *self.rng.pick(&[1, 2, 5, 20]);
                    // Nothing is read-only now and then.
                    let one_in = if failing == Failing::ReadOnly { 1 } else { one_in };
                    let (device, time) = (self.device(), self.rng.below(self.end));
                    self.at(time, Action::DiskFails(device, Some((failing, one_in))));
                    let works = time + 1 + self.rng.below(2_000);
                    self.at(works, Action::DiskFails(device, None));
                }
            }
            Fault::Watch => {
                for _ in 0..=self.rng.below(4) {
                    let (device, time) = (self.device(), self.rng.below(self.end));
                    self.at(time, Action::Deaf(device));
                    let hears = time + 1 + self.rng.below(1_500);
                    let says = self.rng.one_in(2);
                    self.at(hears, Action::Hears(device, says));
                }
            }
            Fault::Clock => {
                for device in 0..self.devices {
                    let off = self.clock();
                    self.at(0, Action::Clock(device, off));
                    for _ in 0..self.rng.below(3) {
                        let (time, off) = (self.rng.below(self.end), self.clock());
                        self.at(time, Action::Clock(device, off));
                    }
                }
            }
            Fault::Fold | Fault::Members | Fault::Years | Fault::Keys => {}
            Fault::Index => self.indexes(),
            Fault::Races => self.races(),
        }
    }

    fn clock(&mut self) -> i64 {
        let most = CLOCK_HOURS * 3_600_000;
        let off = match self.rng.below(3) {
            0 => self.rng.below(4_000),
            1 => self.rng.below(48) * 3_600_000,
            _ => self.rng.below(most),
        };
        let off = i64::try_from(off).unwrap_or(0);
        if self.rng.one_in(2) { -off } else { off }
    }

    fn broken_links(&mut self) {
        let pairs: Vec<_> = (1..self.devices).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
        for _ in 0..=self.rng.below(5) {
            let ((a, b), time) = (*self.rng.pick(&pairs), self.time());
            let (a, b) = if self.rng.one_in(2) { (a, b) } else { (b, a) };
            let late = self.rng.below(1_500);
            self.at(time, Action::Cut(a, b, late));
            let up = time + 1 + self.rng.below(1_000);
            self.at(up, Action::Connect(a, b));
        }
        for _ in 0..self.rng.below(3) {
            let ((a, b), time) = (*self.rng.pick(&pairs), self.rng.below(self.end));
            let longer = *self.rng.pick(&[50, 400, 3_000]);
            self.at(time, Action::Slow(a, b, longer));
            let fast = time + self.rng.below(2_000);
            self.at(fast, Action::Slow(a, b, 0));
        }
        if self.rng.one_in(3) {
            // A partition: those with the bit, and those without.
            let (side, time) = (self.rng.next(), self.rng.below(self.end));
            let heal = time + self.rng.below(3_000);
            for (a, b) in pairs {
                if (side >> a ^ side >> b) & 1 == 1 {
                    self.at(time, Action::Cut(a, b, 0));
                    self.at(heal, Action::Connect(a, b));
                }
            }
        }
    }

    fn deaths(&mut self, power: bool) {
        for _ in 0..=self.rng.below(4) {
            let (device, time) = (self.device(), self.time());
            let nth = (!self.rng.one_in(4)).then(|| self.rng.below(30));
            self.at(time, Action::Die { device, nth, power });
            let start = time + 30 + self.rng.below(1_500);
            self.at(start, Action::Start(device));
        }
    }

    fn indexes(&mut self) {
        for _ in 0..=self.rng.below(2) {
            let (device, time) = (self.device(), self.rng.below(self.end));
            let later = time + 1 + self.rng.below(2_500);
            match self.rng.below(8) {
                0 => self.at(later, Action::DeleteIndex(device)),
                2..=4 => {
                    self.at(time, Action::BackUp(device));
                    self.at(later, Action::RollBack(device));
                }
                1 => {
                    let from = self.device();
                    if from != device {
                        self.at(later, Action::CopyState(from, device));
                    }
                }
                _ => {
                    self.at(time, Action::BackUp(device));
                    let in_place = self.rng.one_in(2);
                    self.at(later, Action::Restore(device, in_place));
                }
            }
            let start = later + 1 + self.rng.below(1_000);
            self.at(start, Action::Start(device));
        }
    }

    /// Who is what at first, and who makes whom what. One or two are admins and stay so.
    fn members(&mut self, seed: u64) -> Vec<Role> {
        self.rng = Rng::new(seed ^ MEMBERS);
        let devices = self.devices as u64;
        let admins = if devices > 3 { 1 + self.rng.below(2) } else { 1 };
        let all = [Role::Out, Role::Reader, Role::Writer, Role::Writer];
        let roles = (0..devices).map(|device| match device < admins {
            true => Role::Writer,
            false => *self.rng.pick(&all),
        });
        let roles = roles.collect();
        for _ in 0..(1 + self.rng.below(7)) {
            let by = usize::try_from(self.rng.below(admins)).unwrap_or(0);
            let of = usize::try_from(admins + self.rng.below(devices - admins)).unwrap_or(0);
            let (time, role) = (self.time(), *self.rng.pick(&all));
            self.at(time, Action::Member(by, of, role));
        }
        roles
    }

    /// When years pass, and who is away. Some were put out meanwhile, and come back; others are set back to what they
    /// were before, or lose what they know, and meet whomever first.
    fn years(&mut self, seed: u64) -> (Option<u64>, Vec<usize>) {
        self.rng = Rng::new(seed ^ YEARS);
        self.faults = self.faults.iter().chain([Fault::Years]).collect();
        let at = self.end / 4 + self.rng.below(self.end / 2);
        let away: Vec<_> = (1..self.devices).filter(|_| self.rng.one_in(5)).collect();
        for device in away.clone() {
            if self.rng.one_in(2) {
                self.at(at, Action::Member(0, device, Role::Out));
                let (again, role) = (at + 1 + self.rng.below(self.end), self.role());
                self.at(again, Action::Member(0, device, role));
            }
            for _ in 0..self.rng.below(3) {
                // Unsent, or while nothing runs there.
                let (time, edit) = (at + self.rng.below(300), self.edit());
                self.at(time, Action::Edit(device, edit));
            }
        }
        for device in 0..self.devices {
            let back = at + 1 + self.rng.below(2_000);
            if self.rng.one_in(3) {
                let before = self.rng.below(at + 1);
                self.at(before, Action::BackUp(device));
                let what = match self.rng.below(3) {
                    0 => Action::RollBack(device),
                    1 => Action::Restore(device, true),
                    _ => Action::Restore(device, false),
                };
                self.at(back, what);
            } else if self.rng.one_in(8) {
                self.at(back, Action::DeleteIndex(device));
            }
            let start = back + 1 + self.rng.below(1_000);
            self.at(start, Action::Start(device));
        }
        (Some(at), away)
    }

    /// Who takes a new key, and when; some do so twice.
    fn keys(&mut self, seed: u64) {
        self.rng = Rng::new(seed ^ KEYS);
        self.faults = self.faults.iter().chain([Fault::Keys]).collect();
        for _ in 0..(1 + self.rng.below(4)) {
            let (device, time) = (self.device(), self.time());
            self.at(time, Action::Rotate(device));
            if self.rng.one_in(3) {
                // Of what is written with the new key others may hear first.
                let (later, edit) = (time + self.rng.below(50), self.edit());
                self.at(later, Action::Edit(device, edit));
            }
        }
    }

    fn role(&mut self) -> Role {
        *self.rng.pick(&[Role::Reader, Role::Writer, Role::Writer])
    }

    fn way(&mut self) -> Way {
        let bytes = self.content();
        match self.rng.below(10) {
            0..=2 => Way::Write(bytes),
            3..=5 => Way::Save(bytes),
            6 | 7 => Way::Remove,
            8 => Way::Rename(self.path()),
            _ => Way::BecomeDir(bytes),
        }
    }

    fn races(&mut self) {
        for _ in 0..self.rng.below(6) {
            let (device, time, way) = (self.device(), self.time(), self.way());
            let after = self.rng.below(8);
            self.at(time, Action::Ambush(device, after, way));
        }
        for _ in 0..(1 + self.rng.below(8)) {
            let (device, time, edit) = (self.device(), self.time(), self.edit());
            let nth = self.rng.below(25);
            self.at(time, Action::Meddle(device, nth, edit));
        }
        for _ in 0..self.rng.below(3) {
            // Saved as some editors do: the old one is renamed, a new one takes its place.
            let (device, time, path) = (self.device(), self.time(), self.path());
            let (backup, bytes) = (format!("{path}~"), self.content());
            self.at(time, Action::Edit(device, Edit::Rename(path.clone(), backup)));
            let then = time + self.rng.below(3);
            self.at(then, Action::Edit(device, Edit::Write(path, bytes)));
        }
        for _ in 0..self.rng.below(3) {
            let (device, time, path) = (self.device(), self.time(), self.path());
            self.at(time, Action::Hold(device, path.clone()));
            for _ in 0..=self.rng.below(2) {
                let (later, bytes) = (time + self.rng.below(1_500), self.content());
                self.at(later, Action::WriteHeld(device, path.clone(), bytes));
            }
        }
    }
}

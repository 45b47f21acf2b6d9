//! Time in a world: its clocks, and years that pass (rule E4).

use std::collections::HashSet;

use folder::{Now, history::Limits};

use super::{What, World};
use crate::{
    fault::Fault,
    plan::{Plan, YEARS_TAKE},
};

/// The wall clock at the start of each seed: 2026-01-01, in nanoseconds since 1970.
const EPOCH: i64 = 1_767_225_600_000_000_000;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// What is known is set down for later this often.
const STEP_MS: u64 = 40 * 24 * HOUR_MS;
/// So many of that make something old.
const STEPS: u64 = 12;

impl World {
    pub(super) fn clock(&self, device: usize) -> Now {
        let now = self.now + self.passed;
        let ms = i64::try_from(now).unwrap_or(0) + self.devices[device].clock;
        Now { ms: now, wall: EPOCH + ms * 1_000_000 }
    }

    /// The time by a right wall clock, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        u64::try_from(EPOCH / 1_000_000).unwrap_or(0) + self.now + self.passed
    }

    pub(super) fn set_clock(&self, device: usize) {
        self.devices[device].disk.set_now(self.clock(device).wall / 1_000_000);
    }

    /// How much history is kept: where years pass all of it, so that what was lost can be told from what was kept for
    /// a month.
    pub(super) fn history_limits(&self) -> Limits {
        match self.faults.has(Fault::Years) {
            true => Limits { days: 0, share: 100 },
            false => Limits::default(),
        }
    }

    /// Nothing goes wrong for years; everybody but who is away is on for some hours now and then.
    pub(crate) fn pass_years(&mut self, plan: &Plan) -> Result<(), String> {
        let end = self.now + YEARS_TAKE;
        self.heal();
        for device in (0..plan.folds.len()).filter(|device| plan.has(*device)) {
            if plan.away.contains(&device) {
                self.stop(device)?;
            } else {
                self.start(device)?;
            }
        }
        let links = plan.links.iter().filter(|(a, b)| plan.has(*a) && plan.has(*b));
        self.wanted_links.extend(links);
        self.members_meet()?;
        self.run_until(self.now + 15_000)?;
        for _ in 0..STEPS {
            for millis in [STEP_MS, HOUR_MS + 1, HOUR_MS + 1] {
                self.much_time_passes(millis)?;
                self.run_until(self.now + 1_000)?;
            }
        }
        self.run_until(end)
    }

    /// No link and no download lasts that long.
    fn much_time_passes(&mut self, millis: u64) -> Result<(), String> {
        self.note(format_args!("{millis} ms pass"));
        let linked: Vec<_> = self.links.keys().copied().collect();
        for (a, b) in linked {
            self.disconnect(a, b)?;
        }
        let (mut whole, mut parts) = (HashSet::new(), HashSet::new());
        for device in &self.devices {
            for (path, bytes) in device.disk.all_contents() {
                let is_part = path.starts_with(".kin/partial/") || path.starts_with(".kin/swap/");
                if is_part {
                    parts.insert(bytes)
                } else {
                    whole.insert(bytes)
                };
            }
        }
        for bytes in parts.difference(&whole) {
            if let Some(replaced) = self.written().get_mut(&**bytes) {
                *replaced = true;
            }
        }
        self.passed += millis;
        for device in 0..self.devices.len() {
            let run = self.devices[device].run;
            self.at(self.now, What::Wake { device, run });
        }
        for (a, b) in self.wanted_links.clone() {
            self.connect(a, b)?;
        }
        Ok(())
    }
}

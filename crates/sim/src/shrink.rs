//! Making a history that fails shorter, for as long as it fails in the same way.

use crate::{
    fault::Fault,
    history::{self, Outcome},
    mutant::Mutation,
    plan::Plan,
};

/// Histories that are tried, at most.
const TRIES: u32 = 1_500;

/// What a failure is, without its particulars.
fn kind(failure: &str) -> &str {
    failure.split(':').next().unwrap_or_default()
}

/// A shorter plan that fails in the same way, and how.
#[must_use]
pub fn shrink(plan: &Plan, failure: &str, mutation: Option<Mutation>) -> (Plan, String) {
    let mut shrinking =
        Shrinking { plan: plan.clone(), failure: failure.to_owned(), mutation, tries: 0 };
    loop {
        let before = (shrinking.plan.steps.len(), shrinking.plan.absent.len());
        shrinking.devices();
        shrinking.steps();
        shrinking.faults();
        if before == (shrinking.plan.steps.len(), shrinking.plan.absent.len()) {
            return (shrinking.plan, shrinking.failure);
        }
    }
}

struct Shrinking {
    plan: Plan,
    failure: String,
    mutation: Option<Mutation>,
    tries: u32,
}

impl Shrinking {
    /// Takes a shorter plan if it fails in the same way.
    fn try_out(&mut self, plan: Plan) -> bool {
        if self.tries >= TRIES {
            return false;
        }
        self.tries += 1;
        let Outcome { failure, .. } = history::play(&plan, self.mutation, false);
        match failure {
            Some(failure) if kind(&failure) == kind(&self.failure) => {
                (self.plan, self.failure) = (plan, failure);
                true
            }
            _ => false,
        }
    }

    fn devices(&mut self) {
        for device in (0..self.plan.folds.len()).rev() {
            if !self.plan.has(device) || self.plan.devices() <= 2 {
                continue;
            }
            let mut plan = self.plan.clone();
            plan.absent.push(device);
            plan.steps.retain(|step| {
                let (a, b) = step.what.devices();
                a != device && b != Some(device)
            });
            // The others stay linked.
            let ends = |it: &(usize, usize)| it.0 == device || it.1 == device;
            let neighbours: Vec<_> = plan
                .links
                .iter()
                .filter(|it| ends(it))
                .map(|(a, b)| if *a == device { *b } else { *a })
                .collect();
            plan.links.retain(|it| !ends(it));
            for pair in neighbours.windows(2) {
                plan.links.push((pair[0].min(pair[1]), pair[0].max(pair[1])));
            }
            plan.links.sort_unstable();
            plan.links.dedup();
            self.try_out(plan);
        }
    }

    fn steps(&mut self) {
        let mut size = (self.plan.steps.len() / 2).max(1);
        loop {
            let mut start = 0;
            while start < self.plan.steps.len() {
                let mut plan = self.plan.clone();
                let end = (start + size).min(plan.steps.len());
                plan.steps.drain(start..end);
                if !self.try_out(plan) {
                    start += size;
                }
            }
            if size == 1 {
                return;
            }
            size = (size / 2).max(1);
        }
    }

    fn faults(&mut self) {
        for fault in Fault::EVERY {
            // Without the kind that hides something, it would be judged as if nothing were hidden.
            if self.plan.faults.has(fault) && !history::JUDGED_BY.contains(&fault) {
                let mut plan = self.plan.clone();
                plan.faults = plan.faults.without(fault);
                self.try_out(plan);
            }
        }
    }
}

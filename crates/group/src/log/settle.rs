//! Judging all operations (the module's documentation says by what rule, and why).

use std::collections::VecDeque;

use super::{
    facts::Facts,
    judge::{Answer, Judge, Verdict},
};

/// Judges all: what is sure until nothing moves, and the rest is contested.
pub(super) fn settle(facts: &Facts) -> Vec<Option<Verdict>> {
    let mut verdicts: Vec<Option<Verdict>> = vec![None; facts.nodes.len()];
    // A judgement of an operation that speaks of a key changes the rights of its family only, so when
    // one is made, that family's open operations are looked at again.
    let mut open: Vec<Vec<usize>> = vec![Vec::new(); facts.families.len()];
    for (at, node) in facts.nodes.iter().enumerate() {
        open[facts.keys[node.author].family].push(at);
    }
    let mut queue: VecDeque<usize> = (0..open.len()).collect();
    let mut queued = vec![true; open.len()];
    while let Some(family) = queue.pop_front() {
        queued[family] = false;
        for at in std::mem::take(&mut open[family]) {
            let verdict = match (Judge { facts, verdicts: &verdicts }).judge(at) {
                Answer::Yes => Verdict::Counts,
                Answer::No => Verdict::Void,
                Answer::Open => {
                    open[family].push(at);
                    continue;
                }
            };
            verdicts[at] = Some(verdict);
            if let Some(target) = facts.nodes[at].target {
                let touched = facts.keys[target].family;
                if !queued[touched] {
                    queued[touched] = true;
                    queue.push_back(touched);
                }
            }
        }
    }
    for verdict in &mut verdicts {
        verdict.get_or_insert(Verdict::Contested);
    }
    verdicts
}

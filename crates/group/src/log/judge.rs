//! Whether one operation had the right to be written, as far as the others have been judged.

use wire::membership::{Action, Role};

use super::facts::{Facts, Node};

/// What became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It does what it says.
    Counts,
    /// It cannot be said, for each of two sides takes the other's right: it takes what it takes, and
    /// gives nothing (rule T11).
    Contested,
    /// It does nothing.
    Void,
}

/// Something that an author needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Right {
    /// That this key is a member's.
    Key(usize),
    /// That this key's device has at least this role.
    Level(usize, Role),
}

impl Right {
    fn key(self) -> usize {
        match self {
            Self::Key(key) | Self::Level(key, _) => key,
        }
    }
}

/// A key of the same device, over rotations that are not void.
#[derive(Clone, Copy)]
pub(super) struct Tie {
    pub(super) key: usize,
    /// True if a rotation on the way there is open: until it is judged, the key may be another device's.
    pub(super) doubt: bool,
}

/// A grant or a taking, with what makes it doubtful whether it is one of the device in question.
pub(super) struct About {
    pub(super) at: usize,
    doubt: bool,
}

/// The answer while others are still open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Yes,
    No,
    /// It cannot be said before others are judged.
    Open,
}

/// The facts with what is judged so far.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) facts: &'a Facts,
    pub(super) verdicts: &'a [Option<Verdict>],
}

impl<'a> Judge<'a> {
    fn node(&self, at: usize) -> &'a Node {
        &self.facts.nodes[at]
    }

    pub(super) fn verdict(&self, at: usize) -> Option<Verdict> {
        self.verdicts.get(at).copied().flatten()
    }

    pub(super) fn counts(&self, at: usize) -> bool {
        self.verdict(at) == Some(Verdict::Counts)
    }

    /// True if what it takes is taken.
    pub(super) fn bites(&self, at: usize) -> bool {
        matches!(self.verdict(at), Some(Verdict::Counts | Verdict::Contested))
    }

    /// What the author of an operation needs for it.
    pub(super) fn needed(&self, at: usize) -> Vec<Right> {
        let node = self.node(at);
        let own = match node.action() {
            Action::Create { .. } => return Vec::new(),
            Action::Leave | Action::Rotate { .. } => true,
            Action::Rename { .. } => node.target == Some(node.author),
            _ => false,
        };
        let mut needed = vec![Right::Key(node.author)];
        if !own {
            needed.push(Right::Level(node.author, Role::Admin));
        }
        needed
    }

    /// The keys of one device: this one, and those that rotations tie to it which are not void.
    pub(super) fn ties(&self, key: usize) -> Vec<Tie> {
        let mut ties = vec![Tie { key, doubt: false }];
        let family = &self.facts.families[self.facts.keys[key].family];
        // First over rotations that count, then over open ones as well.
        for open_too in [false, true] {
            let mut next = 0;
            while let Some(Tie { key, doubt }) = ties.get(next).copied() {
                next += 1;
                for rotation in &family.rotations {
                    let node = self.node(*rotation);
                    let other = match node.target {
                        Some(new) if node.author == key => new,
                        Some(new) if new == key => node.author,
                        _ => continue,
                    };
                    let doubt = match self.verdict(*rotation) {
                        Some(Verdict::Counts) => doubt,
                        Some(Verdict::Void) => continue,
                        Some(Verdict::Contested) | None if !open_too => continue,
                        Some(Verdict::Contested) | None => true,
                    };
                    if !ties.iter().any(|tie| tie.key == other) {
                        ties.push(Tie { key: other, doubt });
                    }
                }
            }
        }
        ties
    }

    /// What gives that right.
    pub(super) fn grants(&self, right: Right) -> Vec<About> {
        match right {
            Right::Key(key) => {
                let grants = self.facts.keys[key].grants.iter().rev();
                grants.map(|at| About { at: *at, doubt: false }).collect()
            }
            Right::Level(key, level) => {
                let mut grants = Vec::new();
                for tie in self.ties(key) {
                    let statements = self.facts.keys[tie.key].statements.iter().rev().copied();
                    let high = statements.filter(|at| self.node(*at).role() >= Some(level));
                    grants.extend(high.map(|at| About { at, doubt: tie.doubt }));
                }
                grants
            }
        }
    }

    /// What takes that right.
    pub(super) fn takings(&self, right: Right) -> Vec<About> {
        let mut takings = Vec::new();
        for tie in self.ties(right.key()) {
            let about = |at: &usize| About { at: *at, doubt: tie.doubt };
            let key = &self.facts.keys[tie.key];
            match right {
                Right::Key(_) => takings.extend(key.ends.iter().map(about)),
                Right::Level(_, level) => {
                    // A rotation takes the old key's right to act; the device keeps its role.
                    let ends = key.ends.iter().filter(|at| !self.node(**at).is_rotation());
                    takings.extend(ends.map(about));
                    let lower = key.statements.iter();
                    let lower = lower.filter(|at| self.node(**at).role() < Some(level));
                    takings.extend(lower.map(about));
                }
            }
        }
        takings
    }

    /// True if `taking` leaves alone what the operation `at` (or the whole set) does by `grant`: it
    /// came after the operation, or the grant was given in spite of it.
    pub(super) fn spares(&self, taking: usize, at: Option<usize>, grant: usize) -> bool {
        taking == grant
            || at == Some(taking)
            || self.node(grant).past.has(taking)
            || at.is_some_and(|at| self.node(taking).past.has(at))
    }

    fn in_view(&self, at: Option<usize>, grant: usize) -> bool {
        at.is_none_or(|at| self.node(at).past.has(grant))
    }

    /// Whether the author of `at` had that right there; for `None`, whether somebody has it in the end.
    /// What is contested is as open as what was not judged yet.
    pub(super) fn ask(&self, at: Option<usize>, right: Right) -> Answer {
        let takings = self.takings(right);
        let mut answer = Answer::No;
        for About { at: grant, doubt } in self.grants(right) {
            if !self.in_view(at, grant) {
                continue;
            }
            let mut open = match self.verdict(grant) {
                Some(Verdict::Counts) => doubt,
                Some(Verdict::Void) => continue,
                Some(Verdict::Contested) | None => true,
            };
            let mut cut = false;
            for taking in takings.iter().filter(|taking| !self.spares(taking.at, at, grant)) {
                match self.verdict(taking.at) {
                    Some(Verdict::Void) => {}
                    Some(Verdict::Counts) if !taking.doubt => {
                        cut = true;
                        break;
                    }
                    _ => open = true,
                }
            }
            match (cut, open) {
                (true, _) => {}
                (false, false) => return Answer::Yes,
                (false, true) => answer = Answer::Open,
            }
        }
        answer
    }

    /// Whether the operation had every right that it needs.
    pub(super) fn judge(&self, at: usize) -> Answer {
        let mut answer = Answer::Yes;
        for right in self.needed(at) {
            match self.ask(Some(at), right) {
                Answer::Yes => {}
                Answer::No => return Answer::No,
                Answer::Open => answer = Answer::Open,
            }
        }
        answer
    }
}

//! Both sides' answers.

/// Where the two answers stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// At least one is missing, and none is no.
    Pending,
    /// Both said yes.
    Agreed,
    /// One said no.
    Refused,
}

/// The answers of one link. The first answer of a side stays.
#[derive(Clone, Copy, Default, Debug)]
pub struct Verdicts {
    mine: Option<bool>,
    theirs: Option<bool>,
}

impl Verdicts {
    /// This side answers. True if it had not answered before.
    pub fn answer(&mut self, yes: bool) -> bool {
        let first = self.mine.is_none();
        self.mine.get_or_insert(yes);
        first
    }

    /// The other side's answer came.
    pub fn heard(&mut self, yes: bool) {
        self.theirs.get_or_insert(yes);
    }

    /// This side's answer.
    #[must_use]
    pub fn mine(&self) -> Option<bool> {
        self.mine
    }

    /// Where the answers stand. Rule T8: nothing is trusted before this is [`Outcome::Agreed`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.mine, self.theirs) {
            (Some(true), Some(true)) => Outcome::Agreed,
            (Some(false), _) | (_, Some(false)) => Outcome::Refused,
            _ => Outcome::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t8_one_yes_is_nothing_and_an_answer_cannot_be_taken_back() {
        let mut verdicts = Verdicts::default();
        verdicts.heard(true);
        assert_eq!(verdicts.outcome(), Outcome::Pending);
        assert!(verdicts.answer(false) && !verdicts.answer(true));
        assert_eq!(verdicts.outcome(), Outcome::Refused);
        let mut verdicts = Verdicts::default();
        verdicts.answer(true);
        verdicts.heard(true);
        verdicts.heard(false);
        assert_eq!(verdicts.outcome(), Outcome::Agreed);
    }
}

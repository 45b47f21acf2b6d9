//! What the issuer of a code was asked on a link. It answers a lookup with an invitation, which is empty if it does not
//! know the code, and so it answers a hello with a code that it does not know; an empty one says no more than that.

use std::collections::VecDeque;

use wire::code::LookupId;

/// Questions that are remembered; each is one of a person's, or comes once with each link.
const MAX_ASKED: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::device) enum Question {
    Lookup(LookupId),
    Hello(LookupId),
}

/// What was not answered yet, the oldest first: answers come in the order of the questions.
#[derive(Default, Debug)]
pub(in crate::device) struct Asked(VecDeque<Question>);

impl Asked {
    pub(in crate::device) fn ask(&mut self, question: Question) {
        if self.0.len() == MAX_ASKED {
            self.0.pop_front();
        }
        self.0.push_back(question);
    }

    /// A letter about a code came: it answers the hello with it, and more may follow.
    pub(super) fn letter(&mut self, lookup: LookupId) {
        if let Some(at) = self.0.iter().position(|one| *one == Question::Hello(lookup)) {
            self.0.remove(at);
        }
    }

    /// What an invitation answers; `None` if nothing was asked.
    pub(super) fn invitation(&mut self, is_empty: bool) -> Option<Question> {
        loop {
            match self.0.pop_front()? {
                // To a hello there is no other answer of this kind.
                Question::Hello(_) if !is_empty => {}
                question => return Some(question),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_invitation_answers_what_was_asked_first() {
        let (one, two) = (LookupId([1; 32]), LookupId([2; 32]));
        let mut asked = Asked::default();
        assert_eq!(asked.invitation(true), None, "nobody asked");
        asked.ask(Question::Lookup(two));
        asked.ask(Question::Hello(one));
        assert_eq!(asked.invitation(true), Some(Question::Lookup(two)));
        assert_eq!(asked.invitation(true), Some(Question::Hello(one)));
        // A hello that a letter has answered, and one that nothing answers.
        asked.ask(Question::Hello(one));
        asked.ask(Question::Lookup(two));
        asked.letter(one);
        asked.letter(two);
        assert_eq!(asked.invitation(true), Some(Question::Lookup(two)));
        asked.ask(Question::Hello(one));
        asked.ask(Question::Lookup(two));
        assert_eq!(asked.invitation(false), Some(Question::Lookup(two)));
        assert_eq!(asked.invitation(false), None);
        (0..1000).for_each(|_| asked.ask(Question::Hello(one)));
        assert_eq!(asked.0.len(), MAX_ASKED);
    }
}

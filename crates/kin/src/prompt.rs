//! The questions of trust (rule T6), as a pure state machine: which one is open, what a typed line
//! means for it. Reading lines is `crate::input`'s part, showing them `crate::output`'s.

use std::collections::VecDeque;

use identity::DeviceId;
use node::QuestionId;

/// Questions that may wait behind the open one; what comes beyond is answered no.
const MAX_WAITING: usize = 16;

/// Is this the device the person means?
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    pub(crate) id: QuestionId,
    /// The device whose key was proven.
    pub(crate) device: DeviceId,
    /// What it calls itself (unescaped).
    pub(crate) name: String,
    /// What both devices show.
    pub(crate) sas: String,
    /// Who comes along if the answer is yes: id and name (unescaped).
    pub(crate) along: Vec<(DeviceId, String)>,
}

/// Are these deletions meant (rule E19)?
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Deletions {
    pub(crate) id: QuestionId,
    /// Files deleted within 24 hours, with those that are held.
    pub(crate) deletes: u64,
    /// Of how many.
    pub(crate) of: u64,
    /// Files whose deletion is held.
    pub(crate) held: u64,
    /// Who deleted them (unescaped); empty if that is not known.
    pub(crate) from: String,
    /// True if some are gone from this device's folder.
    pub(crate) here: bool,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Device(Question),
    Deletions(Deletions),
}

impl Asked {
    pub(crate) fn id(&self) -> QuestionId {
        match self {
            Self::Device(question) => question.id,
            Self::Deletions(deletions) => deletions.id,
        }
    }

    /// What it is about, in messages.
    fn about(&self) -> &str {
        match self {
            Self::Device(question) => &question.name,
            Self::Deletions(_) => "deletions",
        }
    }

    fn sas(&self) -> &str {
        match self {
            Self::Device(question) => &question.sas,
            Self::Deletions(_) => "",
        }
    }
}

/// Something to do because of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Show this question and listen for a line.
    Show(Asked),
    /// Pass the answer on.
    Answer {
        /// Which question.
        asked: Asked,
        /// True for yes.
        yes: bool,
    },
    /// Tell the person. May hold names (unescaped).
    Note(String),
}

/// All questions of a run.
#[derive(Default, Debug)]
pub(crate) struct Questions {
    open: Option<Asked>,
    waiting: VecDeque<Asked>,
    ended: bool,
    /// The last question went away unanswered: a line may be meant for it.
    replaced: bool,
}

impl Questions {
    /// The question that a line would answer now.
    pub(crate) fn open(&self) -> Option<&Asked> {
        self.open.as_ref()
    }

    /// A new question: shown at once if no other is open, else later.
    pub(crate) fn ask(&mut self, question: Asked) -> Vec<Step> {
        if self.ended {
            return no(question, "standard input has ended, which means no");
        }
        if self.waiting.len() >= MAX_WAITING {
            return no(question, "too many devices ask at once");
        }
        self.waiting.push_back(question);
        self.next().into_iter().collect()
    }

    /// The question needs no answer any more.
    pub(crate) fn withdrawn(&mut self, id: QuestionId, reason: &str) -> Vec<Step> {
        self.waiting.retain(|question| question.id() != id);
        let mut steps = Vec::new();
        if let Some(open) = self.open.take_if(|open| open.id() == id) {
            steps
                .push(Step::Note(format!("the question about {} is void: {reason}", open.about())));
            self.replaced = true;
            steps.extend(self.next());
        }
        steps
    }

    /// A line was typed. Only `y` or `y ID` is yes, and only `y ID` if the question took the place of one
    /// that went away unanswered; a line for another question changes nothing; all
    /// else is no.
    pub(crate) fn line(&mut self, line: &str) -> Vec<Step> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(open) = self.open.take() else {
            return vec![Step::Note("no question is open; the line is ignored".to_owned())];
        };
        let (yes, note) = match *words.as_slice() {
            ["y" | "Y"] if self.replaced => {
                // Somebody who cuts the other's link as the person presses the key must not get the yes.
                let note = format!(
                    "this is another question than before: answer y {} if you mean {}",
                    open.id().0,
                    open.about()
                );
                self.open = Some(open);
                return vec![Step::Note(note)];
            }
            ["y" | "Y"] => (true, None),
            ["n" | "N"] | [] => (false, None),
            ["y" | "Y" | "n" | "N", id] if id.parse().is_ok_and(|id: u32| id != open.id().0) => {
                let note = format!("question {id} is not open; the line is ignored");
                self.open = Some(open);
                return vec![Step::Note(note)];
            }
            ["y" | "Y", id] if id.parse() == Ok(open.id().0) => (true, None),
            ["n" | "N", id] if id.parse() == Ok(open.id().0) => (false, None),
            _ if shares_a_word(&words, open.sas()) => (
                false,
                Some(
                    "taken as no: the words and numbers are compared by eye and never typed. \
                 Whoever asks you to type or send them may be trying to get in",
                ),
            ),
            _ => (false, Some("taken as no: only y means yes")),
        };
        self.replaced = false;
        let mut steps = vec![Step::Answer { asked: open, yes }];
        steps.extend(note.map(|note| Step::Note(note.to_owned())));
        steps.extend(self.next());
        steps
    }

    /// Input has ended: no, now and from now on.
    pub(crate) fn end(&mut self) -> Vec<Step> {
        self.ended = true;
        let questions = self.open.take().into_iter().chain(self.waiting.drain(..));
        questions
            .flat_map(|question| no(question, "standard input has ended, which means no"))
            .collect()
    }

    fn next(&mut self) -> Option<Step> {
        if self.open.is_some() {
            return None;
        }
        self.open = self.waiting.pop_front();
        self.open.clone().map(Step::Show)
    }
}

fn no(asked: Asked, why: &str) -> Vec<Step> {
    let note = match &asked {
        Asked::Device(question) => format!("{} is not let in: {why}", question.name),
        Asked::Deletions(_) => format!("deletions are not agreed to: {why}"),
    };
    vec![Step::Answer { asked, yes: false }, Step::Note(note)]
}

fn shares_a_word(words: &[&str], sas: &str) -> bool {
    words.iter().any(|word| sas.split_whitespace().any(|part| part.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(id: u32) -> Asked {
        Asked::Device(Question {
            id: QuestionId(id),
            device: DeviceId([7; 32]),
            name: format!("device-{id}"),
            sas: "maple otter 42 17".to_owned(),
            along: vec![],
        })
    }

    fn answers(steps: &[Step]) -> Vec<(u32, bool)> {
        let answer = |step: &Step| match step {
            Step::Answer { asked, yes } => Some((asked.id().0, *yes)),
            Step::Show(_) | Step::Note(_) => None,
        };
        steps.iter().filter_map(answer).collect()
    }

    fn shown(steps: &[Step]) -> Vec<u32> {
        let show = |step: &Step| match step {
            Step::Show(question) => Some(question.id().0),
            Step::Answer { .. } | Step::Note(_) => None,
        };
        steps.iter().filter_map(show).collect()
    }

    fn note(steps: &[Step]) -> &str {
        let note = steps.iter().find_map(|step| match step {
            Step::Note(note) => Some(note.as_str()),
            Step::Show(_) | Step::Answer { .. } => None,
        });
        note.expect("has a note")
    }

    fn asked() -> Questions {
        let mut questions = Questions::default();
        assert_eq!(shown(&questions.ask(question(3))), [3]);
        questions
    }

    #[test]
    fn t6_only_y_is_yes() {
        for yes in ["y", "Y", " y ", "y 3", "Y  3\t"] {
            assert_eq!(answers(&asked().line(yes)), [(3, true)], "{yes:?}");
        }
        for no in [
            "n", "N", "", " ", "n 3", "yes", "yy", "ja", "y 3 4", "y x", "3 y", "y -1", "y 3.0",
            "1",
        ] {
            assert_eq!(answers(&asked().line(no)), [(3, false)], "{no:?}");
        }
    }

    #[test]
    fn t6_an_answer_to_another_question_is_ignored() {
        let mut questions = asked();
        for line in ["y 2", "n 2", "y 4", "y 4294967295"] {
            let steps = questions.line(line);
            assert_eq!(answers(&steps), []);
            assert!(note(&steps).contains("not open"), "{line}");
        }
        assert_eq!(answers(&questions.line("y 3")), [(3, true)]);
        assert_eq!(answers(&questions.line("y 3")), []);
    }

    #[test]
    fn t6_one_question_at_a_time() {
        let mut questions = asked();
        assert_eq!(questions.ask(question(4)), []);
        assert_eq!(questions.ask(question(5)), []);
        let steps = questions.line("n");
        assert_eq!((answers(&steps), shown(&steps)), (vec![(3, false)], vec![4]));
        let steps = questions.withdrawn(QuestionId(4), "it left");
        assert_eq!((answers(&steps), shown(&steps)), (vec![], vec![5]));
        assert_eq!(questions.withdrawn(QuestionId(4), "again"), []);
        assert_eq!(answers(&questions.line("y")), [], "it may be meant for the one that left");
        let steps = questions.line("y 5");
        assert_eq!((answers(&steps), shown(&steps)), (vec![(5, true)], vec![]));
    }

    #[test]
    fn t6_end_of_input_is_no_for_all_that_wait_and_all_that_come() {
        let mut questions = asked();
        questions.ask(question(4));
        assert_eq!(answers(&questions.end()), [(3, false), (4, false)]);
        assert_eq!(answers(&questions.ask(question(5))), [(5, false)]);
        assert_eq!(questions.open(), None);
    }

    #[test]
    fn a_flood_of_questions_is_answered_no() {
        let mut questions = asked();
        for id in 4..20 {
            assert_eq!(questions.ask(question(id)), []);
        }
        assert_eq!(answers(&questions.ask(question(20))), [(20, false)]);
    }

    #[test]
    fn attack_09_a_typed_sas_is_no_and_the_danger_is_named() {
        for line in ["maple otter 42 17", "MAPLE", "y maple otter 42 17", "42 17"] {
            let steps = asked().line(line);
            assert_eq!(answers(&steps), [(3, false)]);
            assert!(note(&steps).contains("never typed"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn t6_nothing_but_y_is_yes(line in "[yYnN0-9a-z \\t]{0,8}") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let means_yes = matches!(words[..], ["y" | "Y"]) || words.len() == 2
                && words[0].eq_ignore_ascii_case("y") && words[1].parse() == Ok(3u32);
            prop_assert_eq!(answers(&asked().line(&line)).contains(&(3, true)), means_yes);
        }
    }
}

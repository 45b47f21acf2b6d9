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

/// Something that a person is asked.
pub(crate) trait Ask {
    /// Its number.
    fn id(&self) -> QuestionId;
    /// What it is about, in messages (unescaped).
    fn about(&self) -> &str;
    /// What both devices show; empty if nothing is compared.
    fn sas(&self) -> &str;
    /// What a no that nobody said comes to (unescaped).
    fn comes_to_nothing(&self) -> String;
    /// True if it may be open beside another, so that a person chooses among them by number.
    fn beside(&self, _other: &Self) -> bool {
        false
    }
}

/// What `kin sync` asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Device(Question),
    Deletions(Deletions),
}

impl Ask for Asked {
    fn id(&self) -> QuestionId {
        match self {
            Self::Device(question) => question.id,
            Self::Deletions(deletions) => deletions.id,
        }
    }

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

    fn comes_to_nothing(&self) -> String {
        match self {
            Self::Device(question) => format!("{} is not let in", question.name),
            Self::Deletions(_) => "deletions are not agreed to".to_owned(),
        }
    }
}

/// Something to do because of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step<Q = Asked> {
    /// Show this question and listen for a line.
    Show(Q),
    /// Pass the answer on.
    Answer {
        /// Which question.
        asked: Q,
        /// True for yes.
        yes: bool,
    },
    /// Tell the person. May hold names (unescaped).
    Note(String),
}

/// All questions of a run.
#[derive(Debug)]
pub(crate) struct Questions<Q = Asked> {
    /// Several only if they may be open beside each other.
    open: Vec<Q>,
    waiting: VecDeque<Q>,
    ended: bool,
    /// The last question went away unanswered: a line may be meant for it.
    replaced: bool,
}

impl<Q> Default for Questions<Q> {
    fn default() -> Self {
        Self { open: Vec::new(), waiting: VecDeque::new(), ended: false, replaced: false }
    }
}

impl<Q: Ask + Clone> Questions<Q> {
    /// The questions that a line would answer now; the first is the oldest.
    pub(crate) fn open(&self) -> Option<&Q> {
        self.open.first()
    }

    /// A new question: shown at once if no other is open or it may stand beside those, else later.
    pub(crate) fn ask(&mut self, question: Q) -> Vec<Step<Q>> {
        if self.ended {
            return no(question, "standard input has ended, which means no");
        }
        if self.waiting.len() + self.open.len() > MAX_WAITING {
            return no(question, "too many devices ask at once");
        }
        self.waiting.push_back(question);
        self.next()
    }

    /// The question needs no answer any more.
    pub(crate) fn withdrawn(&mut self, id: QuestionId, reason: &str) -> Vec<Step<Q>> {
        self.waiting.retain(|question| question.id() != id);
        let mut steps = Vec::new();
        if let Some(at) = self.open.iter().position(|open| open.id() == id) {
            let open = self.open.remove(at);
            steps
                .push(Step::Note(format!("the question about {} is void: {reason}", open.about())));
            self.replaced = true;
            steps.extend(self.next());
        }
        steps
    }

    /// A line was typed. Only `y` or `y ID` is yes, and only `y ID` if the question took the place of one
    /// that went away unanswered or several are open; a line for another question changes nothing; all
    /// else is no, to all that are open.
    pub(crate) fn line(&mut self, line: &str) -> Vec<Step<Q>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(first) = self.open.first() else {
            return vec![Step::Note("no question is open; the line is ignored".to_owned())];
        };
        let numbered = |id: &&str| self.open.iter().position(|open| id.parse() == Ok(open.id().0));
        let named = words.get(1).and_then(numbered);
        let (yes, which, note) = match *words.as_slice() {
            ["y" | "Y"] if self.open.len() > 1 => {
                let note = "several devices ask: answer y and the number of the one that is meant";
                return vec![Step::Note(note.to_owned())];
            }
            ["y" | "Y"] if self.replaced => {
                // Somebody who cuts the other's link as the person presses the key must not get the yes.
                return vec![Step::Note(format!(
                    "this is another question than before: answer y {} if you mean {}",
                    first.id().0,
                    first.about()
                ))];
            }
            ["y" | "Y"] => (true, Some(0), None),
            ["n" | "N"] | [] => (false, None, None),
            ["y" | "Y", _] if named.is_some() => (true, named, None),
            ["n" | "N", _] if named.is_some() => (false, named, None),
            ["y" | "Y" | "n" | "N", id] if id.parse::<u32>().is_ok() => {
                return vec![Step::Note(format!("question {id} is not open; the line is ignored"))];
            }
            _ if self.open.iter().any(|open| shares_a_word(&words, open.sas())) => (
                false,
                None,
                Some(
                    "taken as no: the words and numbers are compared by eye and never typed. \
                 Whoever asks you to type or send them may be trying to get in",
                ),
            ),
            _ => (false, None, Some("taken as no: only y means yes")),
        };
        self.replaced = false;
        let answered = match which {
            Some(at) => vec![self.open.remove(at)],
            None => std::mem::take(&mut self.open),
        };
        let mut steps: Vec<_> =
            answered.into_iter().map(|asked| Step::Answer { asked, yes }).collect();
        steps.extend(note.map(|note| Step::Note(note.to_owned())));
        steps.extend(self.next());
        steps
    }

    /// Input has ended: no, now and from now on.
    pub(crate) fn end(&mut self) -> Vec<Step<Q>> {
        self.ended = true;
        let questions = self.open.drain(..).chain(self.waiting.drain(..));
        questions
            .flat_map(|question| no(question, "standard input has ended, which means no"))
            .collect()
    }

    /// Opens those whose turn it is.
    fn next(&mut self) -> Vec<Step<Q>> {
        let mut steps = Vec::new();
        while let Some(question) = self.waiting.front()
            && self.open.iter().all(|open| question.beside(open))
            && let Some(question) = self.waiting.pop_front()
        {
            steps.push(Step::Show(question.clone()));
            self.open.push(question);
        }
        steps
    }
}

fn no<Q: Ask>(asked: Q, why: &str) -> Vec<Step<Q>> {
    let note = format!("{}: {why}", asked.comes_to_nothing());
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

    /// A question that may be open beside others.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Request(u32);

    impl Ask for Request {
        fn id(&self) -> QuestionId {
            QuestionId(self.0)
        }

        fn about(&self) -> &str {
            "phone"
        }

        fn sas(&self) -> &str {
            "maple otter 42 17"
        }

        fn comes_to_nothing(&self) -> String {
            "not let in".to_owned()
        }

        fn beside(&self, other: &Self) -> bool {
            self.0 < 10 && other.0 < 10
        }
    }

    fn told(steps: &[Step<Request>]) -> Vec<(u32, bool)> {
        let answer = |step: &Step<Request>| match step {
            Step::Answer { asked, yes } => Some((asked.0, *yes)),
            Step::Show(_) | Step::Note(_) => None,
        };
        steps.iter().filter_map(answer).collect()
    }

    #[test]
    fn t6_of_several_requests_one_is_chosen_by_its_number() {
        let several = || {
            let mut questions = Questions::default();
            for id in [3, 4, 10, 5] {
                let shown = questions.ask(Request(id)).len();
                // The tenth is another kind: it waits, and what comes after it, too.
                assert_eq!(shown, usize::from(id < 5), "{id}");
            }
            questions
        };
        let mut questions = several();
        assert_eq!(told(&questions.line("y")), [], "which one?");
        assert_eq!(told(&questions.line("y 5")), [], "is not on the screen");
        assert_eq!(told(&questions.line("y 4")), [(4, true)]);
        assert_eq!(told(&questions.line("n 3")), [(3, false)]);
        assert_eq!(questions.open(), Some(&Request(10)));
        assert_eq!(told(&several().line("n")), [(3, false), (4, false)]);
        assert_eq!(told(&several().line("maple")), [(3, false), (4, false)]);

        let mut questions = several();
        questions.withdrawn(QuestionId(3), "it left");
        assert_eq!(told(&questions.line("y")), [], "it may be meant for the one that left");
        assert_eq!(told(&questions.line("y 4")), [(4, true)]);
        assert_eq!(told(&several().end()), [(3, false), (4, false), (10, false), (5, false)]);
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

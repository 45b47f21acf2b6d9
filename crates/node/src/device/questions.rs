//! Questions to the person at this device: one is open at a time and has a number (rule T6).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::event::QuestionIds;

/// The open question, and the numbers. Clones are the same.
#[derive(Clone, Default, Debug)]
pub(super) struct Questions {
    ids: QuestionIds,
    open: Arc<Mutex<Option<Open>>>,
}

/// A question's number, and where its answer goes.
type Open = (u32, oneshot::Sender<bool>);

/// A question that was asked.
pub(super) struct Asked {
    pub(super) id: u32,
    pub(super) answer: oneshot::Receiver<bool>,
}

impl Questions {
    /// Numbers for the questions of folders.
    pub(super) fn ids(&self) -> &QuestionIds {
        &self.ids
    }

    /// Opens a question. One that was open is answered no.
    pub(super) fn ask(&self) -> Asked {
        let id = self.ids.next().0;
        let (sender, answer) = oneshot::channel();
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, sender));
        Asked { id, answer }
    }

    /// Answers the open question. False if that is not its number.
    pub(super) fn answer(&self, id: u32, yes: bool) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.take_if(|(asked, _)| *asked == id) {
            Some((_, sender)) => sender.send(yes).is_ok(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn t6_only_the_number_of_the_open_question_answers_it() {
        let questions = Questions::default();
        let first = questions.ask();
        let second = questions.ask();
        assert!(first.answer.await.is_err(), "it was taken back");
        assert!(!questions.answer(first.id, true));
        assert!(questions.answer(second.id, true));
        assert!(!questions.answer(second.id, true), "it is closed");
        assert_eq!(second.answer.await, Ok(true));
    }
}

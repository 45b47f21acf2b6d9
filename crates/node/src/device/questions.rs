//! Questions to the person at this device: each has a number, and one is open at a time (rule T6), but for
//! requests with one token, of which a person chooses one by its number (rule T4).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::event::QuestionIds;

/// Open questions, and the numbers. Clones are the same.
#[derive(Clone, Default, Debug)]
pub(super) struct Questions {
    ids: QuestionIds,
    open: Arc<Mutex<Vec<Open>>>,
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

    /// Opens a question. Those that were open are taken back.
    pub(super) fn ask(&self) -> Asked {
        self.lock().clear();
        self.ask_beside()
    }

    /// Opens a question beside those that are open.
    pub(super) fn ask_beside(&self) -> Asked {
        let id = self.ids.next().0;
        let (sender, answer) = oneshot::channel();
        self.lock().push((id, sender));
        Asked { id, answer }
    }

    /// Takes a question back. False if it was not open.
    pub(super) fn withdraw(&self, id: u32) -> bool {
        self.take(id).is_some()
    }

    /// Takes all open ones back.
    pub(super) fn withdraw_all(&self) -> Vec<u32> {
        self.lock().drain(..).map(|(id, _)| id).collect()
    }

    /// Answers an open question. False if none has that number.
    pub(super) fn answer(&self, id: u32, yes: bool) -> bool {
        self.take(id).is_some_and(|sender| sender.send(yes).is_ok())
    }

    fn take(&self, id: u32) -> Option<oneshot::Sender<bool>> {
        let mut open = self.lock();
        let at = open.iter().position(|(asked, _)| *asked == id)?;
        Some(open.remove(at).1)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn t4_of_several_requests_each_is_answered_by_its_number() {
        let questions = Questions::default();
        let (first, second) = (questions.ask_beside(), questions.ask_beside());
        assert_ne!(first.id, second.id);
        assert!(questions.answer(second.id, true));
        assert!(questions.withdraw(first.id));
        assert!(!questions.answer(first.id, true), "it was taken back");
        assert_eq!((second.answer.await, first.answer.await.is_err()), (Ok(true), true));
    }
}

//! Questions to the person at this device: each has a number, and of whoever asks one is open at a time (rule T6), but
//! for requests with one token, of which a person chooses one by its number (rule T4).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::oneshot;

use crate::event::QuestionIds;

/// Open questions, and the numbers. Clones are the same, also in whose they are.
#[derive(Clone, Default, Debug)]
pub(super) struct Questions {
    ids: QuestionIds,
    open: Arc<Mutex<Vec<Open>>>,
    streams: Arc<AtomicU64>,
    /// Who asks: a person at one command answers no question of another one.
    stream: u64,
}

/// One that is open.
#[derive(Debug)]
struct Open {
    id: u32,
    stream: u64,
    /// Where its answer goes.
    answer: oneshot::Sender<bool>,
}

/// A question that was asked.
pub(super) struct Asked {
    pub(super) id: u32,
    /// An error if it was taken back, which is no no.
    pub(super) answer: oneshot::Receiver<bool>,
}

impl Questions {
    /// Numbers for the questions of folders.
    pub(super) fn ids(&self) -> &QuestionIds {
        &self.ids
    }

    /// For somebody else who asks.
    pub(super) fn of_another(&self) -> Self {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        Self { stream, ..self.clone() }
    }

    /// Opens a question. Those of the same asker that were open are taken back.
    pub(super) fn ask(&self) -> Asked {
        self.withdraw_all();
        self.ask_beside()
    }

    /// Opens a question beside those that are open.
    pub(super) fn ask_beside(&self) -> Asked {
        let id = self.ids.next().0;
        let (sender, answer) = oneshot::channel();
        self.lock().push(Open { id, stream: self.stream, answer: sender });
        Asked { id, answer }
    }

    /// Takes a question back. False if it was not open.
    pub(super) fn withdraw(&self, id: u32) -> bool {
        self.take(id).is_some()
    }

    /// Takes all open ones of this asker back.
    pub(super) fn withdraw_all(&self) -> Vec<u32> {
        self.lock().extract_if(.., |open| open.stream == self.stream).map(|open| open.id).collect()
    }

    /// Answers an open question. False if none has that number.
    pub(super) fn answer(&self, id: u32, yes: bool) -> bool {
        self.take(id).is_some_and(|sender| sender.send(yes).is_ok())
    }

    fn take(&self, id: u32) -> Option<oneshot::Sender<bool>> {
        let mut open = self.lock();
        let at = open.iter().position(|open| open.id == id)?;
        Some(open.remove(at).answer)
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
    async fn t6_what_one_command_asks_takes_back_nothing_that_another_one_asks() {
        let questions = Questions::default();
        let (pairs, joins) = (questions.of_another(), questions.of_another());
        let (offer, compared) = (joins.ask(), pairs.ask());
        assert_eq!(pairs.withdraw_all(), [compared.id]);
        assert!(compared.answer.await.is_err(), "taken back, which is no no");
        pairs.ask();
        // Whoever answers does so by the number alone.
        assert!(questions.answer(offer.id, true));
        assert_eq!(offer.answer.await, Ok(true));
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

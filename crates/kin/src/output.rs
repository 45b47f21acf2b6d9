//! What a run shows, to a person or to a program: one trait, two ways.

pub(crate) mod json;
pub(crate) mod safe_json;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod words;

use std::io;

use node::{Event, QuestionId};

use crate::{
    error::CommandError,
    prompt::{Deletions, Question},
};

/// Where events go. An error means that nobody reads any more.
pub(crate) trait Output {
    /// Something happened. Questions come by [`Output::question`], when it is their turn.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// This question is open now. On a terminal, `discard` is called when all that is asked about has been
    /// written and before the prompt is: it drops what was typed so far, and who waits for the prompt
    /// loses nothing.
    fn question(&mut self, question: &Question, discard: &mut dyn FnMut()) -> io::Result<()>;

    /// Deletions are held. With `discard`, the question about them is open now, as for
    /// [`Output::question`]; without it, nobody can be asked.
    fn deletions(
        &mut self,
        deletions: &Deletions,
        discard: Option<&mut dyn FnMut()>,
    ) -> io::Result<()>;

    /// So many deletions stay held by the answer to a question; `None`: none any more.
    fn held(&mut self, question: QuestionId, deletions: Option<u64>);

    /// The question shown last is over; `typed` says whether a line was typed for it.
    fn question_over(&mut self, typed: bool);

    /// A remark for the person, beside the events. May hold names (unescaped).
    fn note(&mut self, note: &str);

    /// The command ends with this.
    fn error(&mut self, error: &CommandError);
}

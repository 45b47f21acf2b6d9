//! One run of `kin sync` in front of a person or a program: events out, answers in, signals, and when
//! it is over. What is shown and how is `crate::output`'s part.

use std::{future::Future, io, pin::Pin, time::Instant};

use node::{Event, QuestionId};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until},
};

use crate::{
    error::CommandError,
    input::{Input, Typed},
    once::{Once, Over},
    output::Output,
    prompt::{Ask, Asked, Deletions, Question, Questions, Step},
};

/// What can be asked of a running device.
pub(crate) trait Controls {
    /// Answers a question of trust.
    fn answer(&self, id: QuestionId, yes: bool);
    /// Lets new devices ask again after [`Event::AdmissionClosed`].
    fn reopen(&self);
    /// Finishes or rolls back what is in flight and says goodbye. Events go on until
    /// [`Event::Stopped`].
    fn stop(&self) -> impl Future<Output = ()>;
}

/// The ends of a run that meet here.
pub(crate) struct Session<'a> {
    pub(crate) output: &'a mut dyn Output,
    pub(crate) input: Input,
    /// Yields once, when a signal asks for a stop.
    pub(crate) stop_asked: mpsc::Receiver<()>,
    /// For `--once`.
    pub(crate) once: Option<Once>,
}

/// Runs until a signal, the end of `--once`, or a failure.
///
/// # Errors
/// What the command is to end with.
pub(crate) async fn run(
    controls: &impl Controls,
    mut events: mpsc::Receiver<Event>,
    session: Session<'_>,
) -> Result<(), CommandError> {
    let Session { output, mut input, mut stop_asked, once } = session;
    let mut run = Run {
        controls,
        output,
        input: &mut input,
        questions: Questions::default(),
        shown: None,
        told: None,
        closed: false,
        listening: false,
        once,
        over: None,
        last_error: None,
    };
    let mut stopping: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
    let mut stopped = false;
    loop {
        if run.over.is_some() && stopping.is_none() {
            run.stop_listening();
            stopping = Some(Box::pin(controls.stop()));
        }
        let deadline = run.once.as_ref().map(Once::deadline);
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Stopped) | None => {
                    // A closed terminal cannot be told; the run is over anyway.
                    let _ = run.output.event(&Event::Stopped);
                    return run.ending();
                }
                Some(event) => run.event(event),
            },
            typed = run.input.next(), if run.listening => run.typed(typed),
            Some(()) = stop_asked.recv(), if run.over.is_none() => {
                run.output.note("finishing; press Ctrl-C again to stop at once");
                run.over = Some(Ok(()));
            }
            () = until(deadline), if run.over.is_none() => run.expired(),
            () = finished(&mut stopping), if stopping.is_some() && !stopped => stopped = true,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(TokioInstant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}

async fn finished(stopping: &mut Option<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    match stopping {
        Some(stopping) => stopping.await,
        None => std::future::pending().await,
    }
}

struct Run<'a, C> {
    controls: &'a C,
    output: &'a mut dyn Output,
    input: &'a mut Input,
    questions: Questions,
    /// The question that is on the screen.
    shown: Option<QuestionId>,
    /// The last question that was.
    told: Option<QuestionId>,
    /// True while nobody new is let in.
    closed: bool,
    /// True while a line is wanted.
    listening: bool,
    once: Option<Once>,
    /// How the command ends, once that is decided.
    over: Option<Result<(), CommandError>>,
    last_error: Option<String>,
}

impl<C: Controls> Run<'_, C> {
    fn event(&mut self, event: Event) {
        match event {
            Event::Confirm { id, device, name, sas, along } => {
                if self.over.is_some() {
                    self.controls.answer(id, false);
                    return;
                }
                let question = Question { id, device, name, sas, along };
                let steps = self.questions.ask(Asked::Device(question));
                self.take(steps);
                return;
            }
            Event::Brake { id, deletes, of, held, ref from, here } if self.over.is_none() => {
                let from = from.clone();
                let deletions = Deletions { id, deletes, of, held, from, here };
                if let Some(once) = &mut self.once {
                    once.brake(&deletions);
                }
                let steps = self.questions.ask(Asked::Deletions(deletions));
                self.take(steps);
                return;
            }
            Event::ConfirmWithdrawn { id, ref reason } => {
                let steps = self.questions.withdrawn(id, reason);
                self.take(steps);
                self.output.held(id, None);
            }
            Event::AdmissionClosed { .. } => self.closed = true,
            Event::Error { ref message, .. } => self.last_error = Some(message.clone()),
            _ => {}
        }
        let shown = self.output.event(&event);
        self.check(shown);
        let asking = self.questions.open().is_some();
        let over = self.once.as_mut().and_then(|once| once.event(&event, asking, Instant::now()));
        if let (Some(over), None) = (over, &self.over) {
            self.over = Some(match over {
                Over::InSync => Ok(()),
                Over::Failed(error) => Err(error),
            });
        }
        self.listen_for_reopening();
    }

    fn typed(&mut self, typed: Typed) {
        self.listening = false;
        let open = self.questions.open().is_some();
        match typed {
            Typed::End => {
                self.closed = false;
                let steps = self.questions.end();
                self.take(steps);
                return;
            }
            Typed::Line(line) if open => {
                let steps = self.questions.line(&line);
                self.take(steps);
            }
            Typed::Line(line) if self.closed && matches!(line.trim(), "" | "reopen") => {
                self.closed = false;
                self.controls.reopen();
                self.output.note("new devices may ask again");
            }
            Typed::Line(_) => self.output.note("no question is open; the line is ignored"),
        }
        if self.questions.open().is_some() && !self.listening {
            // The line was for another question.
            self.listening = true;
            self.input.listen_on();
        }
        self.listen_for_reopening();
    }

    fn listen_for_reopening(&mut self) {
        if self.closed && !self.listening && self.over.is_none() {
            self.listening = true;
            self.input.ask(|discard| discard());
        }
    }

    fn take(&mut self, steps: Vec<Step>) {
        // A question that is not open any more leaves the screen before anything else is said.
        let open = self.questions.open().map(Ask::id);
        if self.shown.is_some() && self.shown != open {
            let typed = steps.iter().any(|step| matches!(step, Step::Answer { .. }));
            self.shown = None;
            self.output.question_over(typed);
            self.listening = false;
            self.input.pause();
        }
        for step in steps {
            match step {
                Step::Answer { asked, yes } => {
                    let id = asked.id();
                    match asked {
                        Asked::Device(question) => {
                            if let (Some(once), false) = (&mut self.once, yes) {
                                once.said_no(&question.name);
                            }
                        }
                        Asked::Deletions(deletions) => self.decided(&deletions, yes),
                    }
                    self.controls.answer(id, yes);
                }
                Step::Note(note) => self.output.note(&note),
                Step::Show(question) => {
                    let (input, output) = (&mut *self.input, &mut *self.output);
                    let shown = input.ask(|discard| match &question {
                        Asked::Device(question) => output.question(question, discard),
                        Asked::Deletions(held) => output.deletions(held, Some(discard)),
                    });
                    self.shown = Some(question.id());
                    self.told = self.shown;
                    self.listening = true;
                    self.check(shown);
                }
            }
        }
    }

    /// A person agrees to deletions, or does not.
    fn decided(&mut self, deletions: &Deletions, yes: bool) {
        if self.told != Some(deletions.id) {
            // Nobody is there to be asked; it is told all the same.
            let shown = self.output.deletions(deletions, None);
            self.check(shown);
        }
        self.output.held(deletions.id, (!yes).then_some(deletions.held));
        if yes {
            if let Some(once) = &mut self.once {
                once.brake_is_off(deletions.id, Instant::now());
            }
        } else {
            self.output.note(
                "the deletions stay held, and all else goes on; put the files back, \
                 or start again with --accept-deletes",
            );
        }
    }

    fn expired(&mut self) {
        let asking = self.questions.open().is_some();
        self.over = self.once.as_ref().map(|once| Err(once.expired(asking)));
    }

    fn check(&mut self, shown: io::Result<()>) {
        if let (Err(error), None) = (shown, &self.over) {
            let message = format!("standard output is closed: {error}");
            self.over = Some(Err(CommandError::failed("output", &message)));
        }
    }

    fn stop_listening(&mut self) {
        if self.shown.take().is_some() {
            self.output.question_over(false);
        }
        // What is still asked is answered no: nobody is there any more to say yes.
        for step in self.questions.end() {
            if let Step::Answer { asked, .. } = step {
                self.controls.answer(asked.id(), false);
            }
        }
        self.listening = false;
        self.input.pause();
    }

    fn ending(self) -> Result<(), CommandError> {
        self.over.unwrap_or_else(|| {
            let why = self.last_error.unwrap_or_else(|| "it stopped by itself".to_owned());
            Err(CommandError::failed("stopped", &format!("the session has ended: {why}"))
                .hint("see above for what went wrong; -v tells more"))
        })
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

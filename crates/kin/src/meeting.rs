//! `kin ssh listen`, `pair` and `sync` in front of a person or a program: events out, answers in, and how it
//! ended. What is shown and how is `show`'s part.

mod show;

use std::io;

use node::QuestionId;
use ssh::meet::{Event, Meeting, Outcome, Question, Setup};

use crate::{
    error::{CommandError, Exit},
    input::{Input, Typed},
    output::screen::Screen,
    prompt::{Ask, Questions, Step},
    signals,
};
use show::{About, Show};

/// A question of trust.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Trust(Question);

impl Ask for Trust {
    fn id(&self) -> QuestionId {
        QuestionId(self.0.id)
    }

    fn about(&self) -> &str {
        &self.0.name
    }

    fn sas(&self) -> &str {
        &self.0.sas
    }

    fn comes_to_nothing(&self) -> String {
        format!("nothing is installed for {}", self.0.name)
    }
}

/// Runs it to its end.
///
/// # Errors
/// What the command is to end with.
pub(crate) async fn run(screen: &Screen, json: bool, setup: Setup) -> Result<(), CommandError> {
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let about = About::of(&setup);
    let continuous = setup.continuous;
    let (meeting, mut events) = Meeting::start(setup).await.map_err(|error| explain(&error))?;
    let mut run = Run {
        meeting: &meeting,
        show: Show::new(screen.clone(), json, about),
        input: Input::stdin(),
        questions: Questions::default(),
        candidates: 0,
        choosing: false,
        shown: false,
        listening: false,
        installed: false,
    };
    let outcome = loop {
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(Event::Over(outcome)) => break outcome,
                Some(event) => run.event(event).await,
                None => break Outcome::Stopped,
            },
            typed = run.input.next(), if run.listening => run.typed(typed).await,
            Some(()) = stop_asked.recv() => {
                run.meeting.stop().await;
                Ok(())
            }
        };
        step?;
    };
    run.stop_listening();
    let ended = run.over(outcome, continuous);
    screen.clear();
    // Others are told that this device is not here any more.
    while events.recv().await.is_some() {}
    ended
}

struct Run<'a> {
    meeting: &'a Meeting,
    show: Show,
    input: Input,
    questions: Questions<Trust>,
    /// How many may be the other side.
    candidates: u32,
    /// True while one of them is to be chosen.
    choosing: bool,
    /// True while a question or choice is on the screen.
    shown: bool,
    /// True while a line is wanted.
    listening: bool,
    installed: bool,
}

impl Run<'_> {
    async fn event(&mut self, event: Event) -> Result<(), CommandError> {
        match event {
            Event::Confirm(question) => {
                // Whoever is asked about has been chosen.
                if std::mem::take(&mut self.choosing) {
                    self.stop_listening();
                }
                let steps = self.questions.ask(Trust(question));
                return self.take(steps, false).await;
            }
            Event::Withdrawn { id, reason } => {
                let steps = self.questions.withdrawn(QuestionId(id), &reason);
                closed(self.show.withdrawn(id, &reason))?;
                return self.take(steps, false).await;
            }
            Event::Choose(count) => {
                self.candidates = count;
                let (input, show) = (&mut self.input, &mut self.show);
                let shown = input.ask(|discard| show.choose(count, discard));
                (self.choosing, self.shown, self.listening) = (true, true, true);
                return closed(shown);
            }
            Event::Installed(_) => self.installed = true,
            _ => {}
        }
        closed(self.show.event(&event))
    }

    async fn typed(&mut self, typed: Typed) -> Result<(), CommandError> {
        self.listening = false;
        let line = match typed {
            Typed::Line(line) => line,
            Typed::End => {
                if std::mem::take(&mut self.choosing) {
                    self.stop_listening();
                }
                let steps = self.questions.end();
                return self.take(steps, true).await;
            }
        };
        if self.questions.open().is_some() {
            let steps = self.questions.line(&line);
            return self.take(steps, true).await;
        }
        match line.trim().parse::<u32>() {
            Ok(number) if (1..=self.candidates).contains(&number) => {
                self.choosing = false;
                self.stop_listening();
                self.meeting.choose(number).await;
            }
            _ => {
                self.show.note(&format!("answer with a number from 1 to {}", self.candidates));
                self.listening = true;
                self.input.listen_on();
            }
        }
        Ok(())
    }

    /// Does what the questions say.
    async fn take(&mut self, steps: Vec<Step<Trust>>, typed: bool) -> Result<(), CommandError> {
        if self.shown && self.questions.open().is_none() {
            self.show.over(typed);
            (self.shown, self.listening) = (false, false);
            self.input.pause();
        }
        for step in steps {
            match step {
                Step::Answer { asked, yes } => self.meeting.answer(asked.0.id, yes).await,
                Step::Note(note) => self.show.note(&note),
                Step::Show(Trust(question)) => {
                    let (input, show) = (&mut self.input, &mut self.show);
                    let shown = input.ask(|discard| show.question(&question, discard));
                    (self.shown, self.listening) = (true, true);
                    closed(shown)?;
                }
            }
        }
        if self.questions.open().is_some() && !self.listening {
            self.listening = true;
            self.input.listen_on();
        }
        Ok(())
    }

    fn stop_listening(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.show.over(false);
        }
        self.listening = false;
        self.input.pause();
    }

    fn over(&mut self, outcome: Outcome, continuous: bool) -> Result<(), CommandError> {
        match outcome {
            Outcome::Done => closed(self.show.done()),
            Outcome::Stopped if continuous || self.installed => closed(self.show.done()),
            Outcome::Stopped => {
                Err(CommandError::failed("interrupted", "stopped; nothing was installed"))
            }
            Outcome::Refused(reason) => {
                closed(self.show.refused(&reason))?;
                let message = format!("refused: {reason}");
                Err(CommandError::new(Exit::Refused, "refused", &message))
            }
            Outcome::TimedOut(trouble) => {
                closed(self.show.timeout())?;
                let message = match trouble.as_str() {
                    "" => "nobody came in time; nothing was installed".to_owned(),
                    trouble => format!("not in time, and nothing was installed: {trouble}"),
                };
                Err(CommandError::new(Exit::TimedOut, "timeout", &message).hint(self.show.other()))
            }
            Outcome::Failed { kind, message, hint } => {
                let exit = if kind == "host_key_changed" { Exit::Refused } else { Exit::Failed };
                Err(CommandError::new(exit, kind, &message).hint(&hint))
            }
        }
    }
}

fn closed(result: io::Result<()>) -> Result<(), CommandError> {
    result.map_err(|error| {
        CommandError::failed("output", &format!("standard output is closed: {error}"))
    })
}

fn explain(error: &link::LinkError) -> CommandError {
    let told = |kind, hint: &str| CommandError::failed(kind, &error.to_string()).hint(hint);
    match error {
        link::LinkError::PortInUse(_) => told(
            "port_in_use",
            "is another kin ssh or Connecto running? -p chooses another port; the other device names it with HOST:PORT",
        ),
        link::LinkError::PermissionDenied(_) => told("permission", "choose a port from 1024 on"),
        _ => told("link", ""),
    }
}

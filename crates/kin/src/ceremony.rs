//! A pairing in front of a person or a program: events out, answers in, and how it ended. What is shown
//! and how is `show`'s part.

pub(crate) mod show;

use std::{io, path::PathBuf, time::Duration};

use node::{
    QuestionId,
    api::{ApiEvent, DeviceLine, JoinLine, Request},
};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    device::Device,
    error::{CommandError, Exit},
    input::{Input, Typed},
    prompt::{Ask, Questions, Step},
    qr::Qr,
};
use show::Show;

/// A question of trust, as the device asked it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trust(ApiEvent);

impl Trust {
    /// The question in an event; `None` if it is none.
    fn of(event: &ApiEvent) -> Option<Self> {
        let asks = matches!(
            event,
            ApiEvent::Request { .. }
                | ApiEvent::Confirm { .. }
                | ApiEvent::Ask { .. }
                | ApiEvent::Offer { .. }
        );
        asks.then(|| Self(event.clone()))
    }

    /// The event that asks.
    pub(crate) fn event(&self) -> &ApiEvent {
        &self.0
    }

    /// The proven id of the device that is to be let in.
    fn device(&self) -> Option<&str> {
        match &self.0 {
            ApiEvent::Request { device, .. }
            | ApiEvent::Confirm { device, .. }
            | ApiEvent::Offer { device, .. } => Some(device),
            _ => None,
        }
    }

    fn is_request(&self) -> bool {
        matches!(self.0, ApiEvent::Request { .. })
    }
}

impl Ask for Trust {
    fn id(&self) -> QuestionId {
        match self.0 {
            ApiEvent::Request { id, .. }
            | ApiEvent::Confirm { id, .. }
            | ApiEvent::Ask { id, .. }
            | ApiEvent::Offer { id, .. } => QuestionId(id),
            // Nothing else becomes a question.
            _ => QuestionId(0),
        }
    }

    fn about(&self) -> &str {
        match &self.0 {
            ApiEvent::Request { name, .. }
            | ApiEvent::Confirm { name, .. }
            | ApiEvent::Ask { name, .. }
            | ApiEvent::Offer { name, .. } => name,
            _ => "",
        }
    }

    fn sas(&self) -> &str {
        match &self.0 {
            ApiEvent::Request { sas, .. } | ApiEvent::Confirm { sas, .. } => sas,
            _ => "",
        }
    }

    fn comes_to_nothing(&self) -> String {
        match &self.0 {
            ApiEvent::Ask { name, .. } => format!("no SSH with {name}"),
            ApiEvent::Offer { .. } => "nothing is joined".to_owned(),
            _ => format!("{} is not let in", self.about()),
        }
    }

    /// Of several who have the token, one is chosen by its number.
    fn beside(&self, other: &Self) -> bool {
        self.is_request() && other.is_request()
    }
}

/// The ends of a pairing that meet here.
pub(crate) struct Ceremony<'a> {
    pub(crate) device: &'a Device,
    pub(crate) show: &'a mut dyn Show,
    pub(crate) input: Input,
    /// Yields once, when a signal asks for a stop.
    pub(crate) stop_asked: mpsc::Receiver<()>,
    /// The only device that is let in, and without a question (rule T6).
    pub(crate) expected: Option<String>,
    /// How long this command waits; the device has limits of its own.
    pub(crate) patience: Option<Duration>,
    /// Where an image of the token's QR code goes.
    pub(crate) qr_file: Option<PathBuf>,
}

/// Begins with `request` and runs until it is over.
///
/// # Errors
/// What the command is to end with.
pub(crate) async fn run(request: Request, ceremony: Ceremony<'_>) -> Result<(), CommandError> {
    let Ceremony { device, show, input, mut stop_asked, expected, patience, qr_file } = ceremony;
    let joins = matches!(request, Request::JoinCode(_));
    // Who belongs to which group before anything is begun, so that what comes of it is told from what was.
    let members = if joins { Vec::new() } else { members(device).await? };
    let mut events = device.stream(request).await?;
    let deadline = patience.map(|patience| Instant::now() + patience);
    let mut run = Run {
        device,
        show,
        input,
        questions: Questions::default(),
        // The device itself may let in whom it is told to expect, without a word.
        said_yes: expected.clone(),
        expected,
        qr_file,
        candidates: 0,
        choosing: false,
        chosen_for: false,
        members,
        ssh_agreed: false,
        shown: false,
        listening: false,
        pending: false,
        joins,
        trouble: None,
    };
    let ended = loop {
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(event) => run.event(event).await,
                None => Some(run.broken_off()),
            },
            typed = run.input.next(), if run.listening => run.typed(typed).await,
            Some(()) = stop_asked.recv() => {
                events.close();
                run.end().await;
                Some(run.interrupted().await)
            }
            () = until(deadline) => {
                events.close();
                run.end().await;
                Some(Err(run.expired().await))
            }
        };
        if let Some(ended) = step {
            break ended;
        }
    };
    run.stop_listening();
    ended
}

/// Every member of every group.
async fn members(device: &Device) -> Result<Vec<DeviceLine>, CommandError> {
    device.ask(Request::Devices { group: None }).await
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What a yes has brought about.
enum Counts {
    Nothing,
    /// In words.
    This(String),
    /// The device does not say.
    Unknown,
}

/// How the command ends, if it does.
type Ended = Option<Result<(), CommandError>>;

struct Run<'a> {
    device: &'a Device,
    show: &'a mut dyn Show,
    input: Input,
    questions: Questions<Trust>,
    expected: Option<String>,
    qr_file: Option<PathBuf>,
    /// How many may be the other side.
    candidates: u32,
    /// True while one of them is to be chosen.
    choosing: bool,
    /// True if a question took the place of that choice: a number may be meant for it.
    chosen_for: bool,
    /// The device that was let in by a yes here, or would be without a question: that may count whatever happens to
    /// this command (rule T8).
    said_yes: Option<String>,
    /// The members of all groups as they were before.
    members: Vec<DeviceLine>,
    /// True once a question about SSH was answered with yes.
    ssh_agreed: bool,
    /// True while a question or choice is on the screen.
    shown: bool,
    /// True while a line is wanted.
    listening: bool,
    /// True if the join goes on without this command.
    pending: bool,
    /// True for a join by a code, which ends with a folder.
    joins: bool,
    /// The last thing that went wrong.
    trouble: Option<CommandError>,
}

impl Run<'_> {
    async fn event(&mut self, event: ApiEvent) -> Ended {
        if let Some(question) = Trust::of(&event) {
            if self.expected.is_some() {
                return self.answer_expected(&question).await;
            }
            // Whoever compares the string has chosen.
            self.chosen_for = self.choosing;
            self.stop_choosing();
            let steps = self.questions.ask(question);
            return self.take(steps, false).await;
        }
        if let ApiEvent::Withdrawn { id, reason } = &event {
            let steps = self.questions.withdrawn(QuestionId(*id), reason);
            if let Err(error) = self.check(|run| run.show.event(&event)) {
                return Some(Err(error));
            }
            return self.take(steps, false).await;
        }
        // What goes wrong with a join ends it, and is said then.
        let at_the_end = self.joins && matches!(event, ApiEvent::Error { .. });
        if !at_the_end && let Err(error) = self.check(|run| run.show.event(&event)) {
            return Some(Err(error));
        }
        match event {
            // A list that is told again ends with why it is.
            ApiEvent::Candidate { number, .. } if number <= self.candidates => None,
            ApiEvent::Candidate { number, .. } => {
                self.candidates = number;
                self.offer_choice()
            }
            ApiEvent::Error { kind, .. } if kind == "candidate" => self.offer_choice(),
            ApiEvent::Token { link, .. } => {
                let file = self.qr_file.as_deref()?;
                Qr::new(&link).and_then(|qr| qr.write_png(file)).err().map(Err)
            }
            ApiEvent::Pending { reason, .. } => {
                self.pending = reason != "looking";
                None
            }
            ApiEvent::Error { kind, message, hint } => {
                let exit = match kind.as_str() {
                    "joined" | "removed" if self.joins => Exit::Usage,
                    _ => Exit::Failed,
                };
                self.trouble = Some(CommandError::new(exit, kind, &message).hint(&hint));
                None
            }
            ApiEvent::Paired { .. } | ApiEvent::Joined { .. } => Some(Ok(())),
            ApiEvent::Refused { reason } if self.joins => Some(Err(refused(&reason))),
            ApiEvent::Refused { reason } => Some(Err(CommandError::new(
                Exit::Refused,
                "refused",
                &format!("not paired: {reason}"),
            ))),
            ApiEvent::Timeout if self.joins => Some(Err(timeout(
                "the device that issued the code was not found; nothing is joined",
            )
            .hint("see that it runs there (kin up); across networks both need a relay (kin relay use), and kin codes there says whether a relay has the code"))),
            ApiEvent::Timeout => Some(Err(self.expired().await)),
            ApiEvent::Stopped => Some(self.broken_off()),
            _ => None,
        }
    }

    /// With `--yes --expect-device` nothing is asked: that device is let in, every other is not, and SSH is
    /// a question of its own that nobody has answered.
    async fn answer_expected(&mut self, question: &Trust) -> Ended {
        let yes = question.device().is_some_and(|device| Some(device) == self.expected.as_deref());
        if question.device().is_some() && !yes {
            let note = format!("{} is not the expected device", question.about());
            self.show.note(&note);
        } else if yes {
            self.said_yes = question.device().map(str::to_owned);
        }
        self.answer(question.id(), yes).await.err().map(Err)
    }

    async fn typed(&mut self, typed: Typed) -> Ended {
        self.listening = false;
        let line = match typed {
            Typed::Line(line) => line,
            Typed::End => {
                self.stop_choosing();
                let steps = self.questions.end();
                return self.take(steps, true).await;
            }
        };
        if self.questions.open().is_some() {
            // Meant for the choice that was on the screen before: that is no answer about trust.
            if self.chosen_for && self.is_choice(&line) {
                self.chosen_for = false;
                self.show.note("that is no answer to this question: only y means yes");
                self.listen_on();
                return None;
            }
            self.chosen_for = false;
            let steps = self.questions.line(&line);
            return self.take(steps, true).await;
        }
        match line.trim().parse::<u32>() {
            Ok(number) if self.is_choice(&line) => {
                self.stop_choosing();
                let chosen: Result<Value, _> = self.device.ask(Request::Choose { number }).await;
                chosen.err().map(Err)
            }
            _ => {
                let note = format!("answer with a number from 1 to {}", self.candidates);
                self.show.note(&note);
                self.listen_on();
                None
            }
        }
    }

    /// True if a line is the number of a candidate.
    fn is_choice(&self, line: &str) -> bool {
        line.trim().parse().is_ok_and(|number| (1..=self.candidates).contains(&number))
    }

    /// Does what the questions say.
    async fn take(&mut self, steps: Vec<Step<Trust>>, typed: bool) -> Ended {
        if self.shown && self.questions.open().is_none() {
            self.show.over(typed);
            self.shown = false;
            self.listening = false;
            self.input.pause();
        }
        for step in steps {
            match step {
                Step::Answer { asked, yes } => {
                    match asked.device() {
                        Some(device) if yes => self.said_yes = Some(device.to_owned()),
                        None if yes => self.ssh_agreed = true,
                        Some(_) if asked.is_request() => {
                            let about = asked.about();
                            self.show
                                .note(&format!("{about} is not let in; the window stays open"));
                        }
                        _ => {}
                    }
                    if let Err(error) = self.answer(asked.id(), yes).await {
                        return Some(Err(error));
                    }
                }
                Step::Note(note) => self.show.note(&note),
                Step::Show(question) => {
                    let (input, show) = (&mut self.input, &mut *self.show);
                    let shown = input.ask(|discard| show.question(&question, discard));
                    self.shown = true;
                    self.listening = true;
                    if let Err(error) = shown {
                        return Some(Err(closed(&error)));
                    }
                }
            }
        }
        if self.questions.open().is_some() && !self.listening {
            self.listen_on();
        }
        None
    }

    async fn answer(&self, id: QuestionId, yes: bool) -> Result<(), CommandError> {
        // Whether it was still open, the stream will tell.
        let _: Value = self.device.ask(Request::Answer { id: id.0, yes }).await?;
        Ok(())
    }

    fn offer_choice(&mut self) -> Ended {
        let may = self.candidates > 1 && self.questions.open().is_none();
        if may { self.choose().err().map(Err) } else { None }
    }

    fn choose(&mut self) -> Result<(), CommandError> {
        let (input, show, count) = (&mut self.input, &mut *self.show, self.candidates);
        let shown = input.ask(|discard| show.choose(count, discard));
        (self.choosing, self.shown, self.listening) = (true, true, true);
        shown.map_err(|error| closed(&error))
    }

    fn stop_choosing(&mut self) {
        if std::mem::take(&mut self.choosing) {
            self.stop_listening();
        }
    }

    fn stop_listening(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.show.over(false);
        }
        self.listening = false;
        self.input.pause();
    }

    fn listen_on(&mut self) {
        self.listening = true;
        self.input.listen_on();
    }

    fn check(
        &mut self,
        show: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        show(self).map_err(|error| closed(&error))
    }

    /// The stream is over, and nothing was said of why.
    fn broken_off(&mut self) -> Result<(), CommandError> {
        if self.pending {
            return Ok(());
        }
        match (self.trouble.take(), self.joins) {
            // The stream of a join ends with what is wrong.
            (Some(trouble), true) => Err(trouble),
            (trouble, _) => {
                let why = trouble.map(|trouble| trouble.message);
                let why = why.unwrap_or_else(|| "the device has stopped".to_owned());
                let what = if self.joins { "join" } else { "pairing" };
                Err(CommandError::failed("stopped", &format!("the {what} was broken off: {why}"))
                    .hint("kin log may say more; try again"))
            }
        }
    }

    /// Nobody waits here any more: the device lets nobody in from now on, so that what is asked next stays true. Before a
    /// yes nothing can come of it.
    async fn end(&mut self) {
        if !self.joins && self.said_yes.is_some() {
            // A device that does not answer does not answer what follows, either.
            let _: Result<Value, _> = self.device.ask(Request::PairCancel).await;
        }
    }

    /// A signal asks for the end, which is not the end of what a yes has brought about already.
    async fn interrupted(&mut self) -> Result<(), CommandError> {
        if self.pending {
            return Ok(());
        }
        let what = if self.joins { "joined" } else { "paired" };
        match self.what_counts().await {
            Counts::This(kept) => {
                self.show.note(&kept);
                Ok(())
            }
            Counts::Nothing => {
                Err(CommandError::failed("interrupted", &format!("stopped; nothing is {what}")))
            }
            Counts::Unknown => {
                let message =
                    format!("stopped; the device does not say whether anything is {what}");
                Err(CommandError::failed("interrupted", &message).hint(ASK_LATER))
            }
        }
    }

    async fn expired(&mut self) -> CommandError {
        if self.pending {
            return not_yet();
        }
        let what = if self.joins { "joined" } else { "paired" };
        match self.what_counts().await {
            Counts::This(_) if self.pending => not_yet(),
            Counts::This(kept) => timeout(&kept),
            Counts::Nothing => timeout(&format!("nobody came in time; nothing is {what}")),
            Counts::Unknown => {
                timeout(&format!("the device does not say whether anything is {what}"))
                    .hint(ASK_LATER)
            }
        }
    }

    /// What the yes that was said here has brought about, by what the device has: a member that was none, or a
    /// join that waits (rule T8).
    async fn what_counts(&mut self) -> Counts {
        let Some(device) = self.said_yes.clone() else { return Counts::Nothing };
        let Ok(joins) = self.device.ask::<Vec<JoinLine>>(Request::PairStatus).await else {
            return Counts::Unknown;
        };
        if let Some(join) = joins.iter().find(|join| join.device == device) {
            self.pending = true;
            return Counts::This(format!(
                "stopped; the yes counts, and {} may let this device in yet: kin pair --status shows it, kin pair \
                 --abandon gives it up",
                join.name
            ));
        }
        // Folders of a code are said to be joined when they are.
        if self.joins {
            return Counts::Nothing;
        }
        let Ok(devices) = members(self.device).await else { return Counts::Unknown };
        // In another group it may have been before.
        let was = |line: &DeviceLine| {
            self.members.iter().any(|old| old.device == line.device && old.group == line.group)
        };
        let mut of_it = devices.iter().filter(|line| line.device == device && !line.me);
        let Some(found) = of_it.find(|line| !was(line)) else { return Counts::Nothing };
        let ssh = if self.ssh_agreed { "" } else { ", without SSH" };
        Counts::This(format!(
            "stopped; {} is in the group {} already{ssh}: kin devices remove puts it out again",
            found.name, found.group
        ))
    }
}

/// What to do where a device does not say what came of a yes.
const ASK_LATER: &str = "kin devices and kin pair --status tell once it runs again";

fn not_yet() -> CommandError {
    timeout("not admitted yet")
        .hint("it goes on by itself: kin pair --status tells of it, kin pair --abandon gives it up")
}

/// Why a code did not let this device in.
fn refused(reason: &str) -> CommandError {
    let (why, hint) = match reason {
        "expired" => ("the code's time is over", "ask for another one: kin share --code there"),
        "used_up" => (
            "as many devices as the code is for have used it",
            "ask for another one, for more devices: kin share --code --uses N there",
        ),
        "revoked" => (
            "the code was taken back, or whoever issued it lets nobody in any more",
            "ask for another one: kin share --code there",
        ),
        "unknown" => (
            "nobody knows the code",
            "copy it once more, whole; a code is forgotten 30 days after its end",
        ),
        "folder_gone" => ("its folder is not shared any more", "ask whoever gave you the code"),
        "declined" => ("the person there said no", "ask whoever gave you the code"),
        other => (other, ""),
    };
    CommandError::new(Exit::Refused, "refused", &format!("not joined: {why}")).hint(hint)
}

fn timeout(message: &str) -> CommandError {
    CommandError::new(Exit::TimedOut, "timeout", message)
}

fn closed(error: &io::Error) -> CommandError {
    CommandError::failed("output", &format!("standard output is closed: {error}"))
}

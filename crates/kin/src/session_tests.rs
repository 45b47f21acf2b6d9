use std::{sync::Mutex, time::Duration};

use identity::DeviceId;

use super::*;
use crate::{error::Exit, input::tests::scripted};

/// Remembers what was asked of it, and stops as a device does.
struct Fake {
    said: Mutex<Vec<String>>,
    events: mpsc::Sender<Event>,
}

impl Fake {
    fn say(&self, what: String) {
        self.said.lock().expect("no test panics here").push(what);
    }
}

impl Controls for Fake {
    fn answer(&self, id: QuestionId, yes: bool) {
        self.say(format!("answer {} {yes}", id.0));
    }

    fn reopen(&self) {
        self.say("reopen".into());
    }

    async fn stop(&self) {
        self.say("stop".into());
        self.events.send(Event::Stopped).await.expect("is drained until it is stopped");
    }
}

/// Remembers what was shown; each question passes on a scripted line, typed after it was printed.
struct Shown {
    lines: Vec<String>,
    typed: mpsc::Sender<(u64, Typed)>,
    /// Which epoch the next question has.
    epoch: u64,
    script: Vec<Typed>,
    broken: bool,
}

impl Shown {
    fn type_next(&mut self) {
        self.epoch += 1;
        if !self.script.is_empty() {
            let line = self.script.remove(0);
            self.typed.try_send((self.epoch, line)).expect("one line at a time");
        }
    }
}

impl Output for Shown {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let text = format!("{event:?}");
        self.lines.push(text.split([' ', '{']).next().unwrap_or_default().to_owned());
        if matches!(event, Event::AdmissionClosed { .. }) {
            self.type_next();
        }
        Ok(())
    }

    fn question(&mut self, question: &Question, discard: &mut dyn FnMut()) -> io::Result<()> {
        discard();
        self.lines.push(format!("question {}", question.id.0));
        self.type_next();
        Ok(())
    }

    fn deletions(
        &mut self,
        deletions: &Deletions,
        discard: Option<&mut dyn FnMut()>,
    ) -> io::Result<()> {
        let Some(discard) = discard else {
            self.lines.push(format!("told {}", deletions.id.0));
            return Ok(());
        };
        discard();
        self.lines.push(format!("deletions {}", deletions.id.0));
        self.type_next();
        Ok(())
    }

    fn held(&mut self, question: QuestionId, deletions: Option<u64>) {
        self.lines.push(format!("held {} {deletions:?}", question.0));
    }

    fn question_over(&mut self, typed: bool) {
        // A question that is over takes its epoch with it.
        self.epoch += 1;
        self.lines.push(format!("over {typed}"));
    }

    fn note(&mut self, note: &str) {
        self.lines.push(format!("note {note}"));
    }

    fn error(&mut self, _error: &CommandError) {}
}

struct Outcome {
    result: Result<(), CommandError>,
    said: Vec<String>,
    lines: Vec<String>,
}

struct Script {
    typed: Vec<Typed>,
    once: Option<Duration>,
    signal: bool,
    broken: bool,
}

const NOTHING: Script = Script { typed: vec![], once: None, signal: false, broken: false };

/// Sends `events`, and then stops as by itself unless something else decides.
async fn play(script: Script, events: Vec<Event>) -> Outcome {
    let (send, receive) = mpsc::channel(events.len() + 1);
    for event in events {
        send.try_send(event).expect("there is room");
    }
    let (input, typed) = scripted();
    let (signal, stop_asked) = mpsc::channel(1);
    if script.signal {
        signal.try_send(()).expect("there is room");
    }
    let fake = Fake { said: Mutex::default(), events: send };
    let mut output =
        Shown { lines: vec![], typed, epoch: 0, script: script.typed, broken: script.broken };
    let once = script.once.map(|timeout| Once::new(Instant::now(), timeout));
    let session = Session { output: &mut output, input, stop_asked, once };
    let result = run(&fake, receive, session).await;
    Outcome {
        result,
        said: fake.said.into_inner().expect("no test panics here"),
        lines: output.lines,
    }
}

fn confirm(id: u32) -> Event {
    Event::Confirm {
        id: QuestionId(id),
        device: DeviceId([7; 32]),
        name: format!("device-{id}"),
        sas: "maple otter 42 17".into(),
        along: vec![],
    }
}

fn in_sync() -> Event {
    Event::InSync {
        files: 1,
        bytes: 1,
        peers: 1,
        skipped: 0,
        not_applied: 0,
        not_applied_elsewhere: 0,
    }
}

fn line(line: &str) -> Typed {
    Typed::Line(line.into())
}

#[tokio::test]
async fn a_signal_stops_gracefully_and_is_success() {
    let outcome = play(Script { signal: true, ..NOTHING }, vec![]).await;
    assert_eq!((outcome.result, outcome.said), (Ok(()), vec!["stop".to_owned()]));
    assert!(outcome.lines[0].contains("press Ctrl-C again"), "{:?}", outcome.lines);
}

#[tokio::test]
async fn once_ends_with_the_first_agreement() {
    let script = Script { once: Some(Duration::from_secs(600)), ..NOTHING };
    let outcome = play(script, vec![in_sync()]).await;
    assert_eq!((outcome.result, outcome.said), (Ok(()), vec!["stop".to_owned()]));
}

#[tokio::test]
async fn once_times_out_and_stops_gracefully() {
    let script = Script { once: Some(Duration::ZERO), ..NOTHING };
    let outcome = play(script, vec![]).await;
    assert_eq!(outcome.result.expect_err("nobody came").exit, Exit::TimedOut);
    assert_eq!(outcome.said, ["stop"]);
}

#[tokio::test]
async fn once_ends_with_a_refusal() {
    let script = Script { once: Some(Duration::from_secs(600)), ..NOTHING };
    let refused = Event::Refused { name: "x".into(), reason: "no".into() };
    let outcome = play(script, vec![refused]).await;
    assert_eq!(outcome.result.expect_err("was refused").exit, Exit::Refused);
}

#[tokio::test]
async fn t6_answers_reach_their_question_one_after_another() {
    let typed = vec![line("y 1"), line("n")];
    let script = Script { typed, once: Some(Duration::from_secs(600)), ..NOTHING };
    let events = vec![confirm(1), confirm(2)];
    let (send, receive) = mpsc::channel(9);
    for event in events {
        send.try_send(event).expect("there is room");
    }
    let (input, typed) = scripted();
    let fake = Fake { said: Mutex::default(), events: send };
    let mut output = Shown { lines: vec![], typed, epoch: 0, script: script.typed, broken: false };
    let (signal, stop_asked) = mpsc::channel(1);
    let session = Session { output: &mut output, input, stop_asked, once: None };
    let running = run(&fake, receive, session);
    let watching = async {
        // Both answers are in before the signal comes.
        while fake.said.lock().expect("no test panics here").len() < 2 {
            tokio::task::yield_now().await;
        }
        signal.send(()).await.expect("is listened to");
    };
    let (result, ()) = tokio::join!(running, watching);
    assert_eq!(result, Ok(()));
    let said = fake.said.into_inner().expect("no test panics here");
    assert_eq!(said, ["answer 1 true", "answer 2 false", "stop"]);
    let questions: Vec<_> = output.lines.iter().filter(|line| !line.starts_with("note")).collect();
    assert_eq!(questions, ["question 1", "over true", "question 2", "over true", "Stopped"]);
}

#[tokio::test]
async fn t6_end_of_input_is_no() {
    let script =
        Script { typed: vec![Typed::End], once: Some(Duration::from_millis(50)), ..NOTHING };
    let outcome = play(script, vec![confirm(1), confirm(2)]).await;
    assert_eq!(outcome.said, ["answer 1 false", "answer 2 false", "stop"]);
}

fn brake(id: u32) -> Event {
    let from = "desk".to_owned();
    Event::Brake { id: QuestionId(id), deletes: 90, of: 100, held: 60, from, here: false }
}

#[tokio::test]
async fn e19_a_yes_goes_on_with_deletions() {
    let once = Some(Duration::from_millis(50));
    let outcome = play(Script { typed: vec![line("y 1")], once, ..NOTHING }, vec![brake(1)]).await;
    assert_eq!(outcome.said, ["answer 1 true", "stop"]);
    assert_eq!(outcome.lines, ["deletions 1", "over true", "held 1 None", "Stopped"]);
    assert_eq!(outcome.result.expect_err("nobody came").exit, Exit::TimedOut);
}

#[tokio::test]
async fn e19_without_an_answer_deletions_stay_held_and_once_fails() {
    let once = Some(Duration::from_millis(50));
    let script = Script { typed: vec![Typed::End], once, ..NOTHING };
    let outcome = play(script, vec![brake(1), brake(2)]).await;
    assert_eq!(outcome.said, ["answer 1 false", "answer 2 false", "stop"]);
    let lines: Vec<_> = outcome.lines.iter().filter(|line| !line.starts_with("note")).collect();
    let told =
        ["deletions 1", "over true", "held 1 Some(60)", "told 2", "held 2 Some(60)", "Stopped"];
    assert_eq!(lines, told);
    let error = outcome.result.expect_err("deletions are held");
    assert_eq!((error.exit, &*error.kind), (Exit::Failed, "brake"));
}

#[tokio::test]
async fn an_open_question_is_answered_no_when_it_stops() {
    let script = Script { once: Some(Duration::from_millis(20)), ..NOTHING };
    let outcome = play(script, vec![confirm(1)]).await;
    assert_eq!(outcome.said, ["answer 1 false", "stop"]);
    assert_eq!(outcome.result.expect_err("timed out").exit, Exit::TimedOut);
}

#[tokio::test]
async fn an_empty_line_opens_admission_again() {
    let script = Script { typed: vec![line("")], once: Some(Duration::from_millis(50)), ..NOTHING };
    let outcome =
        play(script, vec![Event::AdmissionClosed { reason: "three failed".into() }]).await;
    assert_eq!(outcome.said, ["reopen", "stop"]);
}

#[tokio::test]
async fn nobody_reads_any_more_so_it_stops() {
    let outcome = play(Script { broken: true, ..NOTHING }, vec![in_sync()]).await;
    assert_eq!(outcome.result.expect_err("cannot print").kind, "output");
    assert_eq!(outcome.said, ["stop"]);
}

#[tokio::test]
async fn a_session_that_ends_by_itself_is_a_failure_with_its_cause() {
    let error =
        Event::Error { kind: "io", message: "the disk is gone".into(), hint: String::new() };
    let outcome = play(NOTHING, vec![error, Event::Stopped]).await;
    let error = outcome.result.expect_err("stopped by itself");
    assert_eq!((error.exit, &*error.kind), (Exit::Failed, "stopped"));
    assert!(error.message.contains("the disk is gone"));
}

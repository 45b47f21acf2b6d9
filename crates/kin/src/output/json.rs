//! `--json`: one object a line on standard output. The names and fields are a contract (docs/cli.md):
//! none is ever renamed or removed; fields may be added.

use std::io::{self, Write};

use node::{
    AppliedKind, Event, QuestionId,
    history::{
        Entry,
        restore::{Before, Restored},
    },
};
use serde::Serialize;
use wire::{RelPath, path::STATE_DIR};

use crate::{
    commands::torture::Report,
    error::CommandError,
    output::{Output, safe_json},
    prompt::{Deletions, Question},
    when,
};

/// Prints events as JSON lines.
#[derive(Debug)]
pub(crate) struct Json<W> {
    out: W,
    /// Which of the two devices of `kin demo` speaks.
    on: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Demo {
        laptop: &'a str,
        desktop: &'a str,
    },
    Torture {
        seed: u64,
        devices: usize,
        dir: &'a str,
    },
    Tortured {
        seed: u64,
        edits: u64,
        kills: u64,
        paths: usize,
        copies: usize,
        problems: &'a [String],
    },
    Listening {
        device: String,
        name: &'a str,
        port: u16,
        port_was_taken: bool,
    },
    PeerFound {
        name: &'a str,
        addr: String,
    },
    Confirm {
        id: u32,
        device: String,
        name: &'a str,
        sas: &'a str,
        along: Vec<Along<'a>>,
    },
    Brake {
        id: u32,
        deletes: u64,
        of: u64,
        from: &'a str,
        here: bool,
        held: u64,
    },
    Comparing {
        device: String,
        name: &'a str,
        sas: &'a str,
    },
    ConfirmWithdrawn {
        id: u32,
        reason: &'a str,
    },
    PeerConnected {
        device: String,
        name: &'a str,
        addr: String,
        key_exchange: &'a str,
    },
    PeerDisconnected {
        device: String,
        name: &'a str,
        reason: &'a str,
    },
    Progress {
        files_done: u64,
        files_total: u64,
        bytes_done: u64,
        bytes_total: u64,
    },
    InSync {
        files: u64,
        bytes: u64,
        peers: usize,
        skipped: u64,
        not_applied: u64,
        not_applied_elsewhere: u64,
    },
    Applied {
        path: &'a str,
        kind: &'static str,
        from: &'a str,
    },
    Conflict {
        path: &'a str,
        copy: &'a str,
        from: &'a str,
    },
    Skipped {
        path: &'a str,
        reason: &'a str,
    },
    Mended {
        path: &'a str,
    },
    History {
        path: &'a str,
        time: String,
        size: u64,
        why: &'static str,
        file: String,
    },
    Restored {
        path: &'a str,
        time: String,
        size: u64,
        why: &'static str,
        changed: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    Error {
        kind: &'a str,
        message: &'a str,
        hint: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Along<'a> {
    device: String,
    name: &'a str,
}

#[derive(Serialize)]
struct Tagged<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    on: &'static str,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, on: None }
    }

    /// As [`Json::new`]; each object says in `on` which device it is about.
    pub(crate) fn on(out: W, on: &'static str) -> Self {
        Self { out, on: Some(on) }
    }

    /// Says where the demo's two folders are.
    pub(crate) fn demo(&mut self, laptop: &str, desktop: &str) -> io::Result<()> {
        self.print(Line::Demo { laptop, desktop })
    }

    /// Says that a seed of `kin torture` begins.
    pub(crate) fn torture(&mut self, seed: u64, devices: usize, dir: &str) -> io::Result<()> {
        self.print(Line::Torture { seed, devices, dir })
    }

    /// Says what a seed of `kin torture` came to.
    pub(crate) fn tortured(&mut self, report: &Report<'_>) -> io::Result<()> {
        let Report { seed, edits, kills, paths, copies, problems } = *report;
        self.print(Line::Tortured { seed, edits, kills, paths, copies, problems })
    }

    /// An entry of history.
    pub(crate) fn history(&mut self, entry: &Entry) -> io::Result<()> {
        self.print(Line::History {
            path: &entry.name.path,
            time: when::rfc3339(entry.name.time),
            size: entry.stat.size,
            why: entry.name.why.word(),
            file: in_history(&entry.place),
        })
    }

    /// Something was brought back from history.
    pub(crate) fn restored(&mut self, restored: &Restored) -> io::Result<()> {
        let kept = match &restored.before {
            Before::Replaced(place) => Some(in_history(place)),
            Before::Nothing | Before::Same => None,
        };
        self.print(Line::Restored {
            path: &restored.path,
            time: when::rfc3339(restored.entry.name.time),
            size: restored.entry.stat.size,
            why: restored.entry.name.why.word(),
            changed: restored.before != Before::Same,
            kept,
        })
    }

    /// Something was not.
    pub(crate) fn skipped(&mut self, path: &str, reason: &str) -> io::Result<()> {
        self.print(Line::Skipped { path, reason })
    }

    fn print(&mut self, line: Line<'_>) -> io::Result<()> {
        match self.on {
            None => self.value(&line),
            Some(on) => self.value(&Tagged { line, on }),
        }
    }

    /// Anything else, as a line of its own.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = safe_json::line(value)?;
        // One write and a flush: a reader never sees half a line and never waits for a full buffer.
        self.out.write_all(&text)?;
        self.out.flush()
    }
}

impl<W: Write> Output for Json<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match line(event) {
            Some(line) => self.print(line),
            None => Ok(()),
        }
    }

    fn question(&mut self, question: &Question, discard: &mut dyn FnMut()) -> io::Result<()> {
        // The whole question is one line; what answers it cannot have been typed before.
        discard();
        let along = question.along.iter();
        let along = along.map(|(device, name)| Along { device: device.to_string(), name });
        self.print(Line::Confirm {
            id: question.id.0,
            device: question.device.to_string(),
            name: &question.name,
            sas: &question.sas,
            along: along.collect(),
        })
    }

    fn deletions(
        &mut self,
        deletions: &Deletions,
        discard: Option<&mut dyn FnMut()>,
    ) -> io::Result<()> {
        if let Some(discard) = discard {
            discard();
        }
        let Deletions { id, deletes, of, held, from, here } = deletions;
        self.print(Line::Brake {
            id: id.0,
            deletes: *deletes,
            of: *of,
            from,
            here: *here,
            held: *held,
        })
    }

    fn held(&mut self, _question: QuestionId, _deletions: Option<u64>) {}

    fn question_over(&mut self, _typed: bool) {}

    fn note(&mut self, note: &str) {
        super::screen::Screen::plain().line(&format!("note: {}", crate::escape::escape(note)));
    }

    fn error(&mut self, error: &CommandError) {
        let hint = error.hints.join("; ");
        // If nobody reads any more, there is nobody to tell; the exit code says it too.
        let _ = self.print(Line::Error {
            kind: &error.kind,
            message: &error.message,
            hint: &hint,
            name: None,
        });
    }
}

fn in_history(place: &RelPath) -> String {
    format!("{STATE_DIR}/history/{}", place.as_str())
}

/// The line for an event; `None` for those that programs are not told of.
fn line(event: &Event) -> Option<Line<'_>> {
    Some(match event {
        Event::Listening { device, name, port, port_was_taken } => Line::Listening {
            device: device.to_string(),
            name,
            port: *port,
            port_was_taken: *port_was_taken,
        },
        Event::PeerFound { name, addr } => Line::PeerFound { name, addr: addr.to_string() },
        Event::Comparing { device, name, sas } => {
            Line::Comparing { device: device.to_string(), name, sas }
        }
        Event::ConfirmWithdrawn { id, reason } => Line::ConfirmWithdrawn { id: id.0, reason },
        Event::PeerConnected { device, name, addr, key_exchange } => Line::PeerConnected {
            device: device.to_string(),
            name,
            addr: addr.to_string(),
            key_exchange,
        },
        Event::PeerDisconnected { device, name, reason } => {
            Line::PeerDisconnected { device: device.to_string(), name, reason }
        }
        Event::Progress { files_done, files_total, bytes_done, bytes_total } => Line::Progress {
            files_done: *files_done,
            files_total: *files_total,
            bytes_done: *bytes_done,
            bytes_total: *bytes_total,
        },
        Event::InSync { files, bytes, peers, skipped, not_applied, not_applied_elsewhere } => {
            Line::InSync {
                files: *files,
                bytes: *bytes,
                peers: *peers,
                skipped: *skipped,
                not_applied: *not_applied,
                not_applied_elsewhere: *not_applied_elsewhere,
            }
        }
        Event::Applied { path, kind, from } => {
            Line::Applied { path: path.as_str(), kind: applied_kind(*kind), from }
        }
        Event::Conflict { path, copy, from } => {
            Line::Conflict { path: path.as_str(), copy: copy.as_str(), from }
        }
        Event::Skipped { path, reason } => Line::Skipped { path, reason },
        Event::Mended { path } => Line::Mended { path },
        Event::Error { kind, message, hint } => Line::Error { kind, message, hint, name: None },
        Event::Refused { name, reason } => Line::Error {
            kind: "refused",
            message: reason,
            hint: "both sides must say yes, with the same topic and the same way to get in",
            name: Some(name),
        },
        Event::AdmissionClosed { reason } => Line::Error {
            kind: "admission_closed",
            message: reason,
            hint: "write an empty line to let new devices ask again",
            name: None,
        },
        _ => return None,
    })
}

/// The stable word for what happened to a path.
fn applied_kind(kind: AppliedKind) -> &'static str {
    match kind {
        AppliedKind::Created => "created",
        AppliedKind::Updated => "updated",
        AppliedKind::Metadata => "metadata",
        AppliedKind::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use identity::DeviceId;
    use proptest::prelude::*;
    use wire::RelPath;

    use super::*;
    use crate::escape::is_unsafe;

    fn json(show: impl FnOnce(&mut Json<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        show(&mut Json::new(&mut out));
        String::from_utf8(out).expect("is UTF-8")
    }

    fn event(event: &Event) -> String {
        json(|json| json.event(event).expect("a vector takes all"))
    }

    fn path(path: &str) -> RelPath {
        RelPath::parse(path).expect("is a path")
    }

    #[test]
    fn golden_lines() {
        let device = DeviceId([7; 32]);
        let id = device.to_string();
        assert!(id.starts_with("kd1"), "{id}");
        let addr = ([10, 0, 0, 7], 9000).into();
        let name = || "Ann's \"laptop\"".to_owned();
        let cases = [
            (
                Event::Listening { device, name: name(), port: 9000, port_was_taken: false },
                format!(r#"{{"event":"listening","device":"{id}","name":"Ann's \"laptop\"","port":9000,"port_was_taken":false}}"#),
            ),
            (
                Event::PeerFound { name: "b".into(), addr },
                r#"{"event":"peer_found","name":"b","addr":"10.0.0.7:9000"}"#.into(),
            ),
            (
                Event::Comparing { device, name: "b".into(), sas: "maple otter 42 17".into() },
                format!(r#"{{"event":"comparing","device":"{id}","name":"b","sas":"maple otter 42 17"}}"#),
            ),
            (
                Event::ConfirmWithdrawn { id: QuestionId(2), reason: "it left".into() },
                r#"{"event":"confirm_withdrawn","id":2,"reason":"it left"}"#.into(),
            ),
            (
                Event::PeerConnected { device, name: "b".into(), addr, key_exchange: "X25519MLKEM768".into() },
                format!(r#"{{"event":"peer_connected","device":"{id}","name":"b","addr":"10.0.0.7:9000","key_exchange":"X25519MLKEM768"}}"#),
            ),
            (
                Event::PeerDisconnected { device, name: "b".into(), reason: "goodbye".into() },
                format!(r#"{{"event":"peer_disconnected","device":"{id}","name":"b","reason":"goodbye"}}"#),
            ),
            (
                Event::Progress { files_done: 1, files_total: 2, bytes_done: 3, bytes_total: 4 },
                r#"{"event":"progress","files_done":1,"files_total":2,"bytes_done":3,"bytes_total":4}"#.into(),
            ),
            (
                Event::InSync {
                    files: 1,
                    bytes: 2,
                    peers: 3,
                    skipped: 4,
                    not_applied: 5,
                    not_applied_elsewhere: 6,
                },
                r#"{"event":"in_sync","files":1,"bytes":2,"peers":3,"skipped":4,"not_applied":5,"not_applied_elsewhere":6}"#.into(),
            ),
            (
                Event::Applied { path: path("a/b"), kind: AppliedKind::Created, from: "b".into() },
                r#"{"event":"applied","path":"a/b","kind":"created","from":"b"}"#.into(),
            ),
            (
                Event::Conflict { path: path("a"), copy: path("a.conflict-1-2"), from: "b".into() },
                r#"{"event":"conflict","path":"a","copy":"a.conflict-1-2","from":"b"}"#.into(),
            ),
            (
                Event::Skipped { path: "x".into(), reason: "is a socket".into() },
                r#"{"event":"skipped","path":"x","reason":"is a socket"}"#.into(),
            ),
            (
                Event::Error { kind: "io", message: "m".into(), hint: "h".into() },
                r#"{"event":"error","kind":"io","message":"m","hint":"h"}"#.into(),
            ),
            (
                Event::Refused { name: "b".into(), reason: "said no".into() },
                r#"{"event":"error","kind":"refused","message":"said no","hint":"both sides must say yes, with the same topic and the same way to get in","name":"b"}"#.into(),
            ),
            (
                Event::AdmissionClosed { reason: "three failed".into() },
                r#"{"event":"error","kind":"admission_closed","message":"three failed","hint":"write an empty line to let new devices ask again"}"#.into(),
            ),
        ];
        for (shown, line) in cases {
            assert_eq!(event(&shown), line + "\n");
        }
        assert_eq!(event(&Event::Stopped), "");
    }

    #[test]
    fn golden_confirm_and_error() {
        let device = DeviceId([7; 32]);
        let question = Question {
            id: QuestionId(1),
            device,
            name: "b".into(),
            sas: "maple otter 42 17".into(),
            along: vec![(device, "c".into())],
        };
        assert_eq!(
            json(|json| json.question(&question, &mut || ()).expect("a vector takes all")),
            format!(
                "{{\"event\":\"confirm\",\"id\":1,\"device\":\"{device}\",\"name\":\"b\",\"sas\":\"maple otter 42 17\",\
                 \"along\":[{{\"device\":\"{device}\",\"name\":\"c\"}}]}}\n"
            )
        );
        assert_eq!(
            json(|json| json.error(&CommandError::usage("usage", "m").hint("h").hint("i"))),
            "{\"event\":\"error\",\"kind\":\"usage\",\"message\":\"m\",\"hint\":\"h; i\"}\n"
        );
    }

    #[test]
    fn e19_golden_brake() {
        let deletions = Deletions {
            id: QuestionId(2),
            deletes: 90,
            of: 100,
            held: 60,
            from: "desk".into(),
            here: false,
        };
        let mut discarded = 0;
        let asked = json(|json| {
            json.deletions(&deletions, Some(&mut || discarded += 1)).expect("a vector takes all");
            json.deletions(&deletions, None).expect("a vector takes all");
        });
        let line = r#"{"event":"brake","id":2,"deletes":90,"of":100,"from":"desk","here":false,"held":60}"#;
        assert_eq!((asked, discarded), (format!("{line}\n{line}\n"), 1));
    }

    #[test]
    fn the_demo_says_which_device() {
        let mut out = Vec::new();
        let shown = Event::Mended { path: "a".into() };
        Json::on(&mut out, "laptop").event(&shown).expect("a vector takes all");
        assert_eq!(out, b"{\"event\":\"mended\",\"path\":\"a\",\"on\":\"laptop\"}\n");
    }

    proptest! {
        #[test]
        fn any_text_survives_and_nothing_disturbs_a_terminal(text in any::<String>(), odd in "[\u{202e}\u{9b}\x1b\n\"\\\\a\u{e0041}]{0,9}") {
            let text = text + &odd;
            let line = event(&Event::Skipped { path: text.clone(), reason: String::new() });
            prop_assert!(!line.trim_end_matches('\n').chars().any(is_unsafe));
            let read: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
            prop_assert_eq!(read["path"].as_str(), Some(text.as_str()));
        }
    }
}

//! Events in words, for a person. Pure; everything from outside is escaped here.

use indicatif::{HumanBytes, HumanCount};
use node::{AppliedKind, Event};

use crate::{
    escape::escape,
    prompt::{Deletions, Question},
};

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// Something went on.
    Plain,
    /// Something good.
    Good,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
}

/// One thing to say: a line, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) tone: Tone,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl Said {
    pub(crate) fn new(tone: Tone, text: String) -> Self {
        Self { tone, text, hint: None }
    }

    fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}

/// The line for an event that gets one by itself; progress, agreement and questions are shown
/// otherwise.
pub(crate) fn say(event: &Event) -> Option<Said> {
    let said = |tone, text| Some(Said::new(tone, text));
    match event {
        Event::Listening { device, name, port, port_was_taken } => {
            let mut said = Said::new(
                Tone::Plain,
                format!(
                    "this device is {} on port {port} ({})",
                    escape(name),
                    short(&device.to_string())
                ),
            );
            if *port_was_taken {
                said = said.hint("the default port was taken, so a free one was chosen; -p asks for a certain one");
            }
            Some(said)
        }
        Event::PeerFound { name, addr } if name.is_empty() => {
            said(Tone::Plain, format!("found a device at {addr}"))
        }
        Event::PeerFound { name, addr } => {
            said(Tone::Plain, format!("found {} at {addr}", escape(name)))
        }
        Event::Comparing { name, sas, .. } => said(
            Tone::Plain,
            format!("{} is asked about this device and should see: {sas}", escape(name)),
        ),
        Event::PeerConnected { name, addr, .. } => {
            said(Tone::Good, format!("connected with {} at {addr}", escape(name)))
        }
        Event::PeerDisconnected { name, reason, .. } => {
            said(Tone::Plain, format!("{} is gone: {}", escape(name), escape(reason)))
        }
        Event::Refused { name, reason } => {
            let name = if name.is_empty() { "a device".to_owned() } else { escape(name) };
            said(Tone::Warning, format!("no link with {name}: {}", escape(reason)))
        }
        Event::AdmissionClosed { reason } => Some(
            Said::new(
                Tone::Warning,
                format!("no new device is let in any more: {}", escape(reason)),
            )
            .hint("somebody may be trying to get in; press Enter to let devices ask again"),
        ),
        Event::Conflict { path, copy, from } => Some(
            Said::new(
                Tone::Warning,
                format!(
                    "{} was changed here and on {} at once; both are kept",
                    escape(path),
                    escape(from)
                ),
            )
            .hint(&format!("the other one is {}", escape(copy))),
        ),
        Event::Skipped { path, reason } => {
            said(Tone::Warning, format!("skipped {}: {}", escape(path), escape(reason)))
        }
        Event::Mended { path } => said(Tone::Plain, format!("mended {}", escape(path))),
        Event::Error { message, hint, .. } => {
            let said = Said::new(Tone::Error, escape(message));
            Some(if hint.is_empty() { said } else { said.hint(&escape(hint)) })
        }
        _ => None,
    }
}

/// The line for an applied change, shown where a person watches closely.
pub(crate) fn applied(path: &str, kind: AppliedKind, from: &str) -> String {
    let what = match kind {
        AppliedKind::Created => "new",
        AppliedKind::Updated => "changed",
        AppliedKind::Metadata => "changed (metadata)",
        AppliedKind::Deleted => "deleted",
    };
    format!("{what}: {} (from {})", escape(path), escape(from))
}

/// The line for an agreement.
pub(crate) fn in_sync(files: u64, bytes: u64, peers: usize, lost: Lost) -> String {
    let peers =
        if peers == 1 { "1 other device".to_owned() } else { format!("{peers} other devices") };
    let lost = match lost {
        (0, 0) => String::new(),
        (here, 0) => format!("; {} could not be put in place here", paths(here)),
        (0, there) => format!("; another device could not put {} in place", paths(there)),
        (here, there) => format!(
            "; {} could not be put in place here, and {} on another device",
            paths(here),
            paths(there)
        ),
    };
    format!("in sync with {peers}: {}, {}{lost}", count(files), HumanBytes(bytes))
}

/// Paths that could not be put in place here, and on another device.
pub(crate) type Lost = (u64, u64);

pub(crate) fn paths(count: u64) -> String {
    if count == 1 { "1 path".to_owned() } else { format!("{count} paths") }
}

/// How far work is.
pub(crate) fn progress(
    files_done: u64,
    files_total: u64,
    bytes_done: u64,
    bytes_total: u64,
) -> String {
    format!(
        "receiving {} of {}, {} of {}",
        HumanCount(files_done),
        count(files_total),
        HumanBytes(bytes_done),
        HumanBytes(bytes_total)
    )
}

fn count(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{} files", HumanCount(files)) }
}

/// What is told before the question itself, and the question.
pub(crate) fn question(question: &Question) -> (String, String) {
    let name = escape(&question.name);
    let mut before = format!("\n{name} ({}) wants to join.\n", short(&question.device.to_string()));
    if !question.along.is_empty() {
        let names: Vec<String> = question
            .along
            .iter()
            .map(|(device, name)| format!("{} ({})", escape(name), short(&device.to_string())))
            .collect();
        before += &format!("With it come: {}.\n", names.join(", "));
    }
    before += &format!(
        "Whoever joins can read, change and delete what is in this folder.\n\n    {}\n",
        escape(&question.sas)
    );
    (before, format!("Does {name} show exactly the same? Compare, then answer [y/N] "))
}

/// What is told of deletions that are held.
pub(crate) fn deletions(deletions: &Deletions) -> String {
    let Deletions { deletes, of, held, from, here, .. } = deletions;
    let (deletes, of, held) = (HumanCount(*deletes), count(*of), HumanCount(*held));
    let what = match (from.as_str(), here) {
        ("", true) => format!("{deletes} of {of} are gone from this folder"),
        ("", false) => format!("{deletes} of {of} here were deleted on other devices"),
        (from, false) => format!("{deletes} of {of} here were deleted on {}", escape(from)),
        (from, true) => {
            format!("{deletes} of {of} are gone from this folder or deleted on {}", escape(from))
        }
    };
    format!("{what} within a day; {held} deletions are held until somebody agrees")
}

/// How many paths are not in step; `None` if all are.
pub(crate) fn not_in_step(paths: u64) -> Option<String> {
    match paths {
        0 => None,
        1 => Some("1 path is not in step".to_owned()),
        _ => Some(format!("{} paths are not in step", HumanCount(paths))),
    }
}

/// That deletions are held, for the status line.
pub(crate) fn held(deletions: u64) -> String {
    format!(" · {} deletions held", HumanCount(deletions))
}

/// The question about them, and what the answers do.
pub(crate) fn deletions_question(asked: &Deletions) -> (String, String) {
    let before = format!(
        "\n{}.\nIf that was not meant, put the files back, or answer no: all else goes on. \
         What is deleted is kept in .kin/history.\n",
        deletions(asked)
    );
    let line = if asked.here {
        "Delete them on the other devices too? [y/N] "
    } else {
        "Delete them here too? [y/N] "
    };
    (before, line.to_owned())
}

/// Enough of a device id to tell two apart by eye. The ids are ours: ASCII.
pub(crate) fn short(device: &str) -> String {
    device.chars().take(12).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use identity::DeviceId;
    use node::QuestionId;
    use proptest::prelude::*;
    use wire::RelPath;

    use super::*;
    use crate::escape::is_unsafe;

    fn text(event: &Event) -> String {
        let said = say(event).expect("is said");
        assert!(said.tone != Tone::Error || said.hint.is_some());
        said.text + &said.hint.map(|hint| format!(" | {hint}")).unwrap_or_default()
    }

    #[test]
    fn lines_for_people() {
        let addr = ([10, 0, 0, 7], 9000).into();
        assert_eq!(
            text(&Event::PeerFound { name: "desk\n".into(), addr }),
            "found desk\\n at 10.0.0.7:9000"
        );
        assert_eq!(
            text(&Event::PeerFound { name: String::new(), addr }),
            "found a device at 10.0.0.7:9000"
        );
        assert_eq!(
            text(&Event::Error { kind: "io", message: "no".into(), hint: "do".into() }),
            "no | do"
        );
        assert_eq!(in_sync(1, 0, 1, (0, 0)), "in sync with 1 other device: 1 file, 0 B");
        assert_eq!(
            in_sync(5, 0, 1, (0, 3)),
            "in sync with 1 other device: 5 files, 0 B; another device could not put 3 paths in place"
        );
        assert_eq!(
            in_sync(20_000, 3 << 30, 2, (0, 0)),
            "in sync with 2 other devices: 20,000 files, 3.00 GiB"
        );
        assert_eq!(
            progress(120, 4000, 1 << 20, 1 << 30),
            "receiving 120 of 4,000 files, 1.00 MiB of 1.00 GiB"
        );
        assert_eq!(applied("a\x1b", AppliedKind::Deleted, "desk"), "deleted: a\\u{1b} (from desk)");
    }

    #[test]
    fn t7_a_question_lists_who_comes_along_and_says_what_is_granted() {
        let asked = Question {
            id: QuestionId(1),
            device: DeviceId([1; 32]),
            name: "desk".into(),
            sas: "maple otter 42 17".into(),
            along: vec![(DeviceId([2; 32]), "tab\x1blet".into())],
        };
        let (before, line) = question(&asked);
        assert!(before.contains("    maple otter 42 17\n"), "{before}");
        assert!(before.contains("With it come: tab\\u{1b}let (kd1"), "{before}");
        assert!(before.contains("read, change and delete"), "{before}");
        assert_eq!(line, "Does desk show exactly the same? Compare, then answer [y/N] ");
    }

    proptest! {
        #[test]
        fn nothing_from_outside_reaches_the_terminal_as_it_is(
            text in any::<String>(), odd in "[\u{202e}\u{9b}\x1b\n\ra]{0,9}", name in "[a-z\u{1b}\u{202e}\n]{1,9}",
        ) {
            let from = text + &odd;
            let path = RelPath::parse(&name).expect("is a path");
            let device = DeviceId([1; 32]);
            let addr = ([10, 0, 0, 7], 9000).into();
            let events = [
                Event::PeerFound { name: from.clone(), addr },
                Event::Comparing { device, name: from.clone(), sas: "maple otter 42 17".into() },
                Event::PeerConnected { device, name: from.clone(), addr, key_exchange: from.clone() },
                Event::PeerDisconnected { device, name: from.clone(), reason: from.clone() },
                Event::Refused { name: from.clone(), reason: from.clone() },
                Event::AdmissionClosed { reason: from.clone() },
                Event::Conflict { path: path.clone(), copy: path.clone(), from: from.clone() },
                Event::Skipped { path: from.clone(), reason: from.clone() },
                Event::Mended { path: from.clone() },
                Event::Error { kind: "io", message: from.clone(), hint: from.clone() },
                Event::Listening { device, name: from.clone(), port: 1, port_was_taken: true },
            ];
            for event in &events {
                let said = say(event).expect("is said");
                let shown = said.text + &said.hint.unwrap_or_default();
                prop_assert!(!shown.chars().any(is_unsafe), "{shown:?}");
            }
            prop_assert!(!applied(&path, AppliedKind::Created, &from).chars().any(is_unsafe));
            let asked = Question {
                id: QuestionId(1), device, name: from.clone(), sas: from.clone(), along: vec![(device, from)],
            };
            for (here, from) in [(true, asked.name.clone()), (false, asked.name.clone()), (true, String::new())] {
                let id = QuestionId(1);
                let held = Deletions { id, deletes: 9, of: 10, held: 8, from, here };
                let (before, line) = deletions_question(&held);
                prop_assert!(!before.chars().chain(line.chars()).any(|c| c != '\n' && is_unsafe(c)));
            }
            let (before, line) = question(&asked);
            prop_assert!(!before.chars().chain(line.chars()).any(|c| c != '\n' && is_unsafe(c)));
        }
    }
}

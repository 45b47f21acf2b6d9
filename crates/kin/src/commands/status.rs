//! `kin status`: everything at a glance.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::{Args, builder::styling::Style};
use jiff::tz::TimeZone;
use node::api::{ApiEvent, FolderState, Request, StatusReply};
use tokio::{sync::mpsc, time::timeout};

use super::{devices, group};
use crate::{
    answers::{self, named},
    device::Device,
    error::CommandError,
    escape::escape,
    folders,
    output::{
        screen::Screen,
        terminal::{ERROR, GOOD, HINT, WARNING},
    },
    signals,
};

const AFTER_HELP: &str = "\
What is wrong comes last, each with what to do about it. With --json it is one object, with --watch one each \
time that something changed; docs/api.md has its fields.";

/// Changes that come within this time of each other are shown together.
const TOGETHER: Duration = Duration::from_millis(200);
/// A device whose folders work tells nothing of each file; it is asked so often.
const ANEW: Duration = Duration::from_secs(1);

/// Show devices, folders, what moves and what is wrong
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct StatusArgs {
    /// Show it again whenever something changes, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// Print it as a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &StatusArgs) -> Result<(), CommandError> {
    if !args.watch {
        let status: StatusReply = Device::reach().await?.ask(Request::Status).await?;
        return show(args.json, &status);
    }
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let Some(device) = Device::running().await? else {
        return Err(CommandError::failed("not_running", "the device does not run: nothing moves")
            .hint("kin up starts it; kin status alone shows what there is"));
    };
    let mut events = device.stream(Request::Events).await?;
    let mut shown = None;
    loop {
        let status: StatusReply = device.ask(Request::Status).await?;
        if shown.as_ref() != Some(&status) {
            if !args.json && io::stdout().is_terminal() {
                answers::lines(&["\x1b[H\x1b[2J"])?;
            } else if !args.json && shown.is_some() {
                answers::lines(&[""])?;
            }
            show(args.json, &status)?;
            shown = Some(status);
        }
        tokio::select! {
            _ = stop_asked.recv() => return Ok(()),
            goes_on = change(&mut events) => if !goes_on {
                screen.line("The device has stopped.");
                return Ok(());
            },
        }
    }
}

/// Waits for something to look at again; false if the device has stopped.
async fn change(events: &mut mpsc::Receiver<ApiEvent>) -> bool {
    match timeout(ANEW, events.recv()).await {
        Err(_) => return true,
        Ok(None | Some(ApiEvent::Stopped)) => return false,
        Ok(Some(_)) => {}
    }
    // What comes at once is one change. An end is seen the next time.
    while let Ok(Some(event)) = timeout(TOGETHER, events.recv()).await {
        if event == ApiEvent::Stopped {
            return false;
        }
    }
    true
}

fn show(json: bool, status: &StatusReply) -> Result<(), CommandError> {
    if json {
        return answers::json(std::slice::from_ref(status));
    }
    answers::lines(&lines(status, &TimeZone::system()))
}

/// The status for a person: what is wrong comes last.
fn lines(status: &StatusReply, zone: &TimeZone) -> Vec<String> {
    let device = named(&status.name, &status.device);
    let mut lines = vec![if status.running {
        format!("{device} runs on port {}.", status.port)
    } else {
        format!("{device} does not run: kin up starts it.")
    }];
    let mut section = |title: &str, rows: Vec<String>| {
        if !rows.is_empty() {
            lines.push(format!("\n{title}"));
            lines.extend(rows.into_iter().map(|row| format!("  {row}")));
        }
    };
    if status.groups.len() > 1 {
        section("Groups", group::rows(&status.groups));
    }
    section("Devices", devices::rows(&status.devices, zone));
    section("Folders", folders::rows(&status.folders));
    let joins = status.joins.iter();
    let joins = joins.map(|join| format!("{}: kin pair --status", named(&join.name, &join.device)));
    section("Waits to be let in by", joins.collect());
    let wrong = wrong(status);
    lines.push(String::new());
    if wrong.is_empty() && status.devices.len() <= 1 && status.joins.is_empty() {
        lines.push("Nobody else is here yet: kin pair, on this device and on another.".to_owned());
    } else if wrong.is_empty() && !status.running && !status.folders.is_empty() {
        lines.push("Nothing is kept in step while this device does not run.".to_owned());
    } else if wrong.is_empty() {
        lines.push(format!("{GOOD}Nothing is wrong.{GOOD:#}"));
    }
    lines.extend(wrong);
    lines
}

/// What is wrong, each with a remedy; the worst comes last, where it is seen.
fn wrong(status: &StatusReply) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |style: Style, word: &str, text: &str, hint: &str| {
        lines.push(format!("{style}{word}:{style:#} {text}"));
        if !hint.is_empty() {
            lines.push(format!("{HINT}hint:{HINT:#} {hint}"));
        }
    };
    for group in &status.groups {
        for warning in &group.warnings {
            let text = format!("{}: {}", escape(&group.name), escape(warning));
            say(WARNING, "warning", &text, "");
        }
    }
    for folder in &status.folders {
        let name = escape(&folder.name);
        if folder.conflicts > 0 {
            let copies = if folder.conflicts == 1 { "copy" } else { "copies" };
            let text = format!("{name} has {} conflict {copies}", folder.conflicts);
            say(
                WARNING,
                "warning",
                &text,
                &format!("kin conflicts {name} lists them, and settles them"),
            );
        }
        // A folder that is stopped has its remedy among the errors; one that is not known there is told.
        let known = status.errors.iter().any(|error| error.folder.as_ref() == Some(&folder.name));
        // That the device does not run, the first line says.
        let told = known || !status.running;
        if let (Some(reason), false) = (&folder.reason, told) {
            let (style, word) = match folder.state {
                FolderState::Stopped => (ERROR, "error"),
                _ => (WARNING, "warning"),
            };
            say(style, word, &format!("{name}: {}", escape(reason)), "");
        }
    }
    // Those of groups are among the warnings above.
    for error in status.errors.iter().filter(|error| error.kind != "group") {
        let folder = error.folder.as_ref().map(|name| format!("{}: ", escape(name)));
        let text = format!("{}{}", folder.unwrap_or_default(), escape(&error.message));
        // What waits for a person, or for better times, has stopped nothing.
        match error.kind.as_str() {
            "code_waits" | "code_unposted" | "relay" | "settings" | "local_only" => {
                say(WARNING, "warning", &text, &escape(&error.hint));
            }
            _ => say(ERROR, "error", &text, &escape(&error.hint)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use node::api::{DeviceLine, FolderLine, Trouble};

    use super::*;
    use crate::folders::tests::folder;

    fn status() -> StatusReply {
        let device = |name: &str, me| DeviceLine {
            device: "kd1qqqqqqqqqqqqq".into(),
            name: name.into(),
            role: "admin".into(),
            group: "home".into(),
            online: true,
            last_seen: None,
            me,
        };
        StatusReply {
            device: "kd1qqqqqqqqqqqqq".into(),
            name: "laptop".into(),
            running: true,
            port: 9000,
            devices: vec![device("laptop", true), device("nas", false)],
            folders: vec![folder("Documents", FolderState::Idle)],
            groups: vec![],
            joins: vec![],
            errors: vec![],
        }
    }

    fn shown(status: &StatusReply) -> String {
        let text = lines(status, &TimeZone::UTC).join("\n");
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn all_is_well() {
        assert_eq!(
            shown(&status()),
            "laptop (kd1qqqqqqqqq…) runs on port 9000.

Devices
  laptop  kd1qqqqqqqqq…  admin  this device
  nas     kd1qqqqqqqqq…  admin  online

Folders
  Documents  in step  1,200 files, 3.00 GiB  /home/ann/docs\\u{1b}

Nothing is wrong."
        );
    }

    #[test]
    fn what_is_wrong_is_last_with_its_remedy_and_nothing_is_told_twice() {
        let mut status = status();
        status.folders = vec![
            FolderLine {
                reason: Some("the disk is full".into()),
                conflicts: 1,
                ..folder("Doc\x1bs", FolderState::Stopped)
            },
            FolderLine {
                reason: Some("120 deletions are held".into()),
                ..folder("Photos", FolderState::Idle)
            },
        ];
        status.errors = vec![
            Trouble {
                kind: "disk_full".into(),
                folder: Some("Doc\x1bs".into()),
                message: "no space is left\n".into(),
                hint: "make room".into(),
            },
            Trouble {
                kind: "clock".into(),
                folder: None,
                message: "the clock is wrong".into(),
                hint: String::new(),
            },
        ];
        let text = shown(&status);
        let (_, wrong) =
            text.split_once("\n\n").and_then(|(_, rest)| rest.rsplit_once("\n\n")).unwrap();
        assert_eq!(
            wrong,
            "warning: Doc\\u{1b}s has 1 conflict copy
hint: kin conflicts Doc\\u{1b}s lists them, and settles them
warning: Photos: 120 deletions are held
error: Doc\\u{1b}s: no space is left\\n
hint: make room
error: the clock is wrong"
        );
        status.running = false;
        assert!(
            shown(&status).starts_with("laptop (kd1qqqqqqqqq…) does not run: kin up starts it.\n")
        );
        let alone = StatusReply { devices: vec![], folders: vec![], errors: vec![], ..status };
        assert!(shown(&alone).ends_with("kin pair, on this device and on another."));
        let join = node::api::JoinLine {
            device: "kd1qqqqqqqqqqqqq".into(),
            name: "des\u{1b}k".into(),
            ceremony: "code".into(),
            since: 0,
        };
        let waits = shown(&StatusReply { joins: vec![join], ..alone });
        assert!(waits.contains("let in by\n  des\\u{1b}k (kd1qqqqqqqqq…): kin pair --status"));
        assert!(!waits.contains("Nobody else"), "{waits}");
    }
}

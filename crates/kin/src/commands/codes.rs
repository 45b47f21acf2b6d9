//! `kin codes`: the sharing codes that this device issued.

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use node::api::{CodeLine, Request};

use crate::{
    answers::{self, named},
    device::Device,
    error::CommandError,
    escape::escape,
    output::{screen::Screen, table::table},
    when,
};

const AFTER_HELP: &str = "\
Examples:
  kin codes                     what is out, who used it, what is left
  kin codes revoke 3f2a         nobody else gets in by it; who is in stays: kin devices remove NAME
  kin codes allow 3f2a phone    lets a device in that waits, if the code was issued with --ask

A code is shown once, when kin share --code issues it. Here it is named by an id that opens nothing.";

/// List the sharing codes that this device issued; take one back
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CodesArgs {
    #[command(subcommand)]
    action: Option<Action>,

    /// Print one JSON object a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List them; this is what kin codes does by itself
    List,
    /// Take a code back: nobody else gets in by it
    Revoke {
        /// The code's id, or the beginning of it
        #[arg(value_name = "ID")]
        code: String,
    },
    /// Let a code go on that waits since this device's state looks restored
    Resume {
        /// The code's id, or the beginning of it
        #[arg(value_name = "ID")]
        code: String,
    },
    /// Let a device in that waits
    Allow(Waiting),
    /// Say no to a device that waits
    Decline(Waiting),
}

#[derive(Args, Debug)]
struct Waiting {
    /// The code's id, or the beginning of it
    #[arg(value_name = "ID")]
    code: String,
    /// The device: its name, or the beginning of its id
    #[arg(value_name = "DEVICE")]
    device: String,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: CodesArgs) -> Result<(), CommandError> {
    let device = Device::reach().await?;
    let json = args.json;
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let codes: Vec<CodeLine> = device.ask(Request::Codes).await?;
            device.close().await;
            if json {
                return answers::json(&codes);
            }
            if codes.is_empty() {
                screen.line("This device has issued no code. kin share DIR --code issues one.");
            }
            answers::lines(&rows(&codes, &TimeZone::system()))
        }
        Action::Revoke { code } => {
            let line: CodeLine = device.ask(Request::RevokeCode { code }).await?;
            device.close().await;
            let left = match line.used_by.len() {
                0 => String::new(),
                _ => format!(
                    " Who used it stays a member: {}.",
                    line.used_by.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ")
                ),
            };
            let said =
                format!("The code for {} lets nobody in any more.{left}", escape(&line.folder));
            answers::done(screen, json, &line, &said)
        }
        Action::Resume { code } => {
            let line: CodeLine = device.ask(Request::ResumeCode { code }).await?;
            device.close().await;
            let said = format!("The code for {} is {}.", escape(&line.folder), state(&line));
            answers::done(screen, json, &line, &said)
        }
        Action::Allow(one) => answer(screen, device, one, true, json).await,
        Action::Decline(one) => answer(screen, device, one, false, json).await,
    }
}

async fn answer(
    screen: &Screen,
    device: Device,
    one: Waiting,
    yes: bool,
    json: bool,
) -> Result<(), CommandError> {
    let Waiting { code, device: who } = one;
    let name = escape(&who);
    let line: CodeLine = device.ask(Request::AnswerCode { code, device: who, yes }).await?;
    device.close().await;
    let said = match yes {
        true => format!("{name} is let in to {}.", escape(&line.folder)),
        false => format!("{name} is not let in."),
    };
    answers::done(screen, json, &line, &said)
}

fn state(line: &CodeLine) -> &str {
    match line.state.as_str() {
        "open" => "open",
        "expired" => "expired",
        "used_up" => "used up",
        "revoked" => "revoked",
        "folder_gone" => "of a folder that is gone",
        "suspended" => "suspended: kin codes resume ID",
        _ => "of a state that this kin does not know",
    }
}

/// That a code is at no relay, and why.
pub(crate) fn unposted(why: &str) -> String {
    match why {
        "" => "at no relay yet: it is being posted".to_owned(),
        why => format!("at no relay yet: {}", escape(why)),
    }
}

/// Why a code let somebody not in.
fn reason(word: &str) -> String {
    match word {
        "expired" => "its time was over".to_owned(),
        "used_up" => "it was used up".to_owned(),
        "revoked" => "it was taken back, or the device was put out".to_owned(),
        "folder_gone" => "its folder is not shared any more".to_owned(),
        "declined" => "somebody here said no".to_owned(),
        other => escape(other),
    }
}

fn rows(codes: &[CodeLine], zone: &TimeZone) -> Vec<String> {
    let row = |line: &CodeLine| {
        let until = u64::try_from(line.expires).unwrap_or(0).saturating_mul(1000);
        vec![
            escape(&line.id.chars().take(8).collect::<String>()),
            escape(&line.folder),
            escape(&line.role),
            state(line).to_owned(),
            format!("{} left", line.uses_left),
            format!("until {}", when::show(until, zone)),
        ]
    };
    let table = table(&codes.iter().map(row).collect::<Vec<_>>());
    let mut lines = Vec::new();
    for (row, line) in table.into_iter().zip(codes) {
        lines.push(row);
        if let Some(why) = &line.unposted {
            lines.push(format!("    {}", unposted(why)));
        }
        if !line.used_by.is_empty() {
            let names: Vec<String> = line.used_by.iter().map(|name| escape(name)).collect();
            lines.push(format!("    used by {}", names.join(", ")));
        }
        for ask in &line.waiting {
            lines.push(format!("    {} asks to be let in.", named(&ask.name, &ask.device)));
            if !ask.grants.is_empty() {
                lines.push(format!("    A yes gives: {}.", escape(&ask.grants)));
            }
            lines.push(format!(
                "    kin codes allow {} {}",
                escape(&line.id.chars().take(8).collect::<String>()),
                escape(&ask.device.chars().take(12).collect::<String>())
            ));
        }
        for one in &line.refused {
            let at = u64::try_from(one.at).unwrap_or(0).saturating_mul(1000);
            lines.push(format!(
                "    refused {}: {}, {}",
                named(&one.name, &one.device),
                reason(&one.reason),
                when::show(at, zone)
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use node::api::{CodeAsk, CodeRefusal};

    use super::*;

    #[test]
    fn what_comes_from_others_is_escaped() {
        let device = "kd1qqqqqqqqqqqqqqqq".to_owned();
        let line = CodeLine {
            id: "3f2a00001111".into(),
            folder: "Pho\u{1b}tos".into(),
            group: "home".into(),
            role: "reader".into(),
            expires: 1_800_000_000,
            uses_left: 2,
            used_by: vec!["pho\u{1b}ne".into()],
            state: "open".into(),
            ask: true,
            waiting: vec![CodeAsk {
                device: device.clone(),
                name: "a\u{202e}b".into(),
                at: 1,
                grants: "It will be a reader".into(),
            }],
            refused: vec![CodeRefusal {
                device,
                name: "c\nd".into(),
                reason: "used_up".into(),
                at: 1,
            }],
            unposted: Some("it is\u{1b} full".into()),
        };
        let lines = rows(&[line], &TimeZone::UTC);
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[1], "    at no relay yet: it is\\u{1b} full");
        assert!(lines[0].starts_with("3f2a0000  Pho\\u{1b}tos  reader  open  2 left"), "{lines:?}");
        assert_eq!(lines[2], "    used by pho\\u{1b}ne");
        let asks = "a\\u{202e}b (kd1qqqqqqqqq…) asks to be let in";
        assert!(lines[3].contains(asks), "{lines:?}");
        assert_eq!(lines[4], "    A yes gives: It will be a reader.");
        assert_eq!(lines[5], "    kin codes allow 3f2a0000 kd1qqqqqqqqq");
        assert!(lines[6].contains("c\\nd") && lines[6].contains("it was used up"));
    }
}

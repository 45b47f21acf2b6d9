//! `kin why`: why a path is as it is here.

use clap::Args;
use indicatif::HumanBytes;
use jiff::tz::TimeZone;
use node::api::{Request, VersionLine, WhyReply};

use crate::{
    answers, device::Device, error::CommandError, escape::escape, folders::meant, past, when,
};

const AFTER_HELP: &str = "\
Example:
  kin why Documents letters/one.txt

Says the last decision about the path, by which rule it was made, what can be done about it, and which \
versions are known: the first one is what devices show.";

/// Say why a path is as it is here: the last decision about it
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct WhyArgs {
    /// The folder: name, beginning of its id, or directory
    #[arg(value_name = "FOLDER")]
    folder: String,

    /// The path in it
    #[arg(value_name = "PATH")]
    path: String,

    /// Print a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs it to its end.
pub(crate) async fn run(args: WhyArgs) -> Result<(), CommandError> {
    let path = past::path("PATH", &args.path)?;
    if path.is_root() {
        return Err(CommandError::usage("path", "PATH: that is the folder itself")
            .hint("name a file or a directory in it; kin status tells how the folder is"));
    }
    let path = path.as_str().to_owned();
    let request = Request::Why { folder: meant(&args.folder)?, path };
    let why: WhyReply = Device::reach().await?.ask(request).await?;
    if args.json {
        return answers::json(std::slice::from_ref(&why));
    }
    answers::lines(&words(&why, &TimeZone::system()))
}

fn words(why: &WhyReply, zone: &TimeZone) -> Vec<String> {
    let here = if why.here { "" } else { " It is not on this device." };
    let mut lines = vec![format!(
        "{}: {} (rule {}).{here}",
        escape(&why.path),
        escape(&why.decision),
        escape(&why.rule)
    )];
    if !why.remedy.is_empty() {
        lines.push(format!("hint: {}", escape(&why.remedy)));
    }
    lines.extend(why.versions.iter().map(|version| row(version, zone)));
    lines
}

fn row(version: &VersionLine, zone: &TimeZone) -> String {
    let VersionLine { kind, size, mtime, devices, conflict } = version;
    let size = if kind == "file" { format!(", {}", HumanBytes(*size)) } else { String::new() };
    let written = match u64::try_from(*mtime / 1_000_000) {
        Ok(0) | Err(_) => String::new(),
        Ok(millis) => format!(", of {}", when::show(millis, zone)),
    };
    let by = devices.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ");
    let copy = if *conflict { "; kept in a conflict copy" } else { "" };
    format!("  {}{size}{written}, by {by}{copy}", escape(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_a_sentence_a_remedy_and_the_versions() {
        let why = WhyReply {
            path: "a\nb".into(),
            here: false,
            decision: "its deletion is held until a person agrees".into(),
            rule: "E19".into(),
            remedy: "agree to the deletions".into(),
            versions: vec![VersionLine {
                kind: "file".into(),
                size: 12,
                mtime: 1_000_000_000_000_000,
                devices: vec!["nas\x1b".into()],
                conflict: true,
            }],
        };
        assert_eq!(
            words(&why, &TimeZone::UTC),
            [
                "a\\nb: its deletion is held until a person agrees (rule E19). It is not on this device.",
                "hint: agree to the deletions",
                "  file, 12 B, of 1970-01-12 13:46:40 +00:00, by nas\\u{1b}; kept in a conflict copy",
            ]
        );
    }
}

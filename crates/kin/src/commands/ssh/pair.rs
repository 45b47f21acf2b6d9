//! `kin ssh pair`: makes this device able to log in to another.

use std::time::Duration;

use clap::Args;
use ssh::meet::{Kind, Place, Target};
use wire::ssh::Purpose;

use super::{
    common::{CommonArgs, Given, LogInArgs},
    scan::{self, SeenLine},
};
use crate::{error::CommandError, meeting, output::screen::Screen};

const AFTER_HELP: &str = "\
Examples:
  kin ssh pair                  the device that runs kin ssh listen in this network
  kin ssh pair desk             the one of that name
  kin ssh pair 2                the second of the last kin ssh scan
  kin ssh pair 10.0.2.7:8099    where discovery does not reach";

/// Make this device able to log in to another, which runs kin ssh listen
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PairArgs {
    /// The other device: its name, its number in the last scan, or its address
    #[arg(value_name = "TARGET")]
    target: Option<String>,

    #[command(flatten)]
    common: CommonArgs,

    #[command(flatten)]
    log_in: LogInArgs,

    /// Give up after this many seconds
    #[arg(short, long, value_name = "SECS", default_value_t = 120)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// Runs it to its end.
pub(super) async fn run(screen: &Screen, json: bool, args: &PairArgs) -> Result<(), CommandError> {
    let last = scan::last()?;
    let target = match args.target.as_deref() {
        None => Target::Any,
        Some(text) => target(text, &last)?,
    };
    if let Target::At(_, Some(kind)) = &target
        && *kind != Kind::Kinfold
        && args.common.connecto.is_none()
    {
        return Err(CommandError::usage(
            "connecto",
            "that device speaks Connecto, which proves nothing about who it is",
        )
        .hint("say --connecto if you want that all the same"));
    }
    let setup = Given {
        purpose: Purpose::Pair,
        common: &args.common,
        let_in: None,
        log_in: Some(&args.log_in),
        target,
        continuous: false,
        timeout: Some(Duration::from_secs(args.timeout)),
    }
    .setup()
    .await?;
    meeting::run(screen, json, setup).await
}

/// Which device is meant, in the light of the last scan.
fn target(text: &str, last: &[SeenLine]) -> Result<Target, CommandError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seen =
            text.parse().ok().and_then(|index: u32| last.iter().find(|one| one.index == index));
        let Some((place, seen)) = seen.and_then(|seen| Some((seen.place()?, seen))) else {
            return Err(CommandError::usage(
                "target",
                &format!("there is no number {text} in the last scan"),
            )
            .hint("kin ssh scan lists who listens"));
        };
        return Ok(Target::At(place, Kind::from_word(&seen.kind)));
    }
    let place: Option<Place> = text.parse().ok();
    if text.contains(['.', ':', '%', '['])
        && let Some(place) = place.clone()
    {
        let known = last.iter().find(|one| one.place().as_ref() == Some(&place));
        return Ok(Target::At(place, known.and_then(|one| Kind::from_word(&one.kind))));
    }
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(CommandError::usage("target", "that is neither a name nor an address")
            .hint("write a device's name, HOST or HOST:PORT"));
    }
    let seen = last.iter().find(|one| one.name.eq_ignore_ascii_case(text));
    let otherwise = match seen {
        Some(seen) => seen.place().map(|place| (place, Kind::from_word(&seen.kind))),
        None => place.map(|place| (place, None)),
    };
    Ok(Target::Named(text.to_owned(), otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_number_an_address_or_a_name() {
        let seen = |index, name: &str, addr: &str, kind: &str| SeenLine {
            event: "found".into(),
            index,
            name: name.into(),
            addr: addr.into(),
            port: 8099,
            kind: kind.into(),
        };
        let last =
            [seen(1, "desk", "10.0.2.7", "kinfold"), seen(2, "", "10.0.2.9", "connecto-text")];
        let place = |text: &str| text.parse::<Place>().unwrap();
        for (text, expected) in [
            ("1", Target::At(place("10.0.2.7"), Some(Kind::Kinfold))),
            ("2", Target::At(place("10.0.2.9"), Some(Kind::ConnectoText))),
            ("10.0.2.7", Target::At(place("10.0.2.7"), Some(Kind::Kinfold))),
            ("10.0.2.8:1", Target::At(place("10.0.2.8:1"), None)),
            ("nas.local", Target::At(place("nas.local"), None)),
            ("Desk", Target::Named("Desk".into(), Some((place("10.0.2.7"), Some(Kind::Kinfold))))),
            ("lap", Target::Named("lap".into(), Some((place("lap"), None)))),
            ("Anna's lap", Target::Named("Anna's lap".into(), None)),
        ] {
            assert_eq!(target(text, &last).as_ref(), Ok(&expected), "{text}");
        }
        for bad in ["3", "0", "", " ", "a\nb", "99999999999999999999"] {
            assert!(target(bad, &last).is_err(), "{bad:?}");
        }
    }
}

//! `kin join CODE`: lets this device in to a folder of somebody's by a sharing code.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use node::api::{JoinCode, Request};

use super::JoinArgs;
use crate::{
    answers,
    ceremony::{self, Ceremony, show::Person},
    device::Device,
    error::CommandError,
    folders::absolute,
    given, handover,
    input::{Input, Typed},
    output::{json::Json, screen::Screen, terminal::show_warning},
    signals,
};

/// Where the code comes from.
pub(super) enum Source {
    /// It was an argument.
    Argument(String),
    /// It was taken from the arguments (`crate::handover`).
    Handed(u32),
    /// Standard input.
    Input,
    /// A file that this user alone can read.
    File(PathBuf),
}

/// The code that was meant, if one was.
pub(super) fn source(args: &JoinArgs) -> Option<(Source, Option<PathBuf>)> {
    if let Some(file) = &args.from_file {
        // With the code in a file, the first word is where the folder is to be.
        return Some((Source::File(file.clone()), args.what.as_ref().map(PathBuf::from)));
    }
    let text = args.what.as_deref()?.trim();
    let source = match text.strip_prefix(handover::HANDED).and_then(|fd| fd.parse().ok()) {
        Some(fd) => Source::Handed(fd),
        None if text == "-" => Source::Input,
        None if given::is_code(text) => Source::Argument(text.to_owned()),
        None => return None,
    };
    Some((source, args.dir.clone()))
}

/// Runs it to its end.
pub(super) async fn run(
    screen: &Screen,
    args: &JoinArgs,
    source: Source,
    dir: Option<&Path>,
) -> Result<(), CommandError> {
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let mut input = Input::stdin();
    let code = match source {
        Source::Argument(code) => {
            // It could not be taken from the arguments.
            show_warning(screen, handover::EXPOSED_CODE);
            given::code(&code)?
        }
        Source::Handed(fd) => {
            show_warning(screen, handover::EXPOSED_CODE);
            given::code(&handover::receive(fd)?)?
        }
        Source::File(file) => {
            let bytes = tree::read_secret_file(&file).map_err(|error| {
                CommandError::usage("code", &error.to_string())
                    .hint("a code's file can be read by you alone (chmod 600)")
            })?;
            given::code(&String::from_utf8_lossy(&bytes))?
        }
        Source::Input => {
            input.ask(|discard| screen.ask("", "Code or link: ", discard));
            let typed = tokio::select! {
                typed = input.next() => typed,
                _ = stop_asked.recv() => {
                    screen.answered(false);
                    return Err(CommandError::failed("interrupted", "stopped; nothing is joined"));
                }
            };
            screen.answered(matches!(typed, Typed::Line(_)));
            input.pause();
            match typed {
                Typed::Line(line) => given::code(&line)?,
                Typed::End => {
                    return Err(CommandError::usage("code", "input ended before a code came")
                        .hint("paste the code or link that kin share --code shows on the other device"));
                }
            }
        }
    };
    if args.yes && args.expect_device.is_none() {
        return Err(CommandError::usage(
            "usage",
            "--yes lets a device decide only together with --expect-device",
        )
        .hint("say whose code it is: --expect-device kd1…, which kin id prints there"));
    }
    let (dir, under) = match dir {
        Some(dir) => (absolute(dir)?, false),
        None => (absolute(Path::new("."))?, true),
    };
    let request = Request::JoinCode(JoinCode {
        code,
        dir,
        under,
        mode: args.mode.mode(),
        at: args.at.clone(),
        timeout: args.timeout,
        expect_device: args.expect_device.clone(),
        discovery: !args.no_discovery,
    });
    let device = Device::reach().await?;
    let mut json = Json::new(io::stdout());
    let mut person = Person::new(screen.clone());
    let show: &mut dyn ceremony::show::Show = if args.json { &mut json } else { &mut person };
    let ceremony = Ceremony {
        device: &device,
        show,
        input,
        stop_asked,
        expected: args.expect_device.clone(),
        patience: args.timeout.map(Duration::from_secs),
        qr_file: None,
    };
    let ended = ceremony::run(request, ceremony).await;
    let runs = !device.is_within();
    device.close().await;
    if ended.is_ok() && !runs && !args.json {
        answers::say_start(screen);
    }
    ended
}

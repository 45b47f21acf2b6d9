//! `kin pair`: makes two devices know each other, for good.

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use identity::DeviceId;
use jiff::tz::TimeZone;
use node::api::{JoinLine, PairLan, PairToken, Request, Which};
use serde_json::Value;
use wire::pair::Token;

use crate::{
    answers::{self, named},
    ceremony::{self, Ceremony, show::Person},
    check,
    device::Device,
    error::CommandError,
    given::{self, Given},
    handover,
    input::{Input, Typed},
    output::{json::Json, screen::Screen, table::table, terminal::show_warning, words::short},
    qr, signals, when,
};

const AFTER_HELP: &str = "\
Examples:
  kin pair                  on both devices, in the same network: compare, then y and y
  kin pair nas.local        where discovery does not reach; kin pair there, too
  kin pair --token          shows a QR code and a link that lets one device ask to join
  kin pair -                on that device: paste the link; accept on the first one

Both devices show the same words and numbers, or somebody sits in between: then answer n. They are compared
by eye and never typed. The device that joins becomes admin of the group: it reads and writes all folders and
may let in and remove others; --token takes --role and --folders to grant less. SSH is asked about apart.";

/// Whose group the two devices share from then on
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Into {
    /// This device's
    Mine,
    /// The other device's
    Theirs,
}

/// Make two devices know each other, for good
///
/// Run it on both. They find each other on the local network, show the same words and numbers, and are one
/// group after a yes on both sides. Across networks, one shows a token and the other one takes it.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PairArgs {
    /// Where the other device is, or the token or link that it shows; - reads that from standard input
    #[arg(value_name = "HOST[:PORT]|TOKEN|LINK|-", num_args = 0..)]
    #[arg(conflicts_with_all = ["show", "from_file"])]
    peer: Vec<String>,

    /// Give up after this many seconds [default: 300; with a token, the device it is of decides]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,

    /// Which of this device's groups [default: the one in use]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// Whose group, if both have more than their own device
    #[arg(long, value_name = "WHOSE", conflicts_with_all = ["show", "from_file"])]
    into: Option<Into>,

    /// Port to listen on, if the device is not running in the background [default: any]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Show a token that lets one device ask to join
    #[arg(long = "token", id = "show", help_heading = "By a token")]
    show: bool,

    /// How long it can be used: 90s, 5m, 2h, up to 24h [default: 5m]
    #[arg(long, value_name = "TIME", requires = "show", help_heading = "By a token")]
    window: Option<String>,

    /// What the device that joins may do: admin, writer, reader or keeper [default: admin]
    #[arg(long, value_name = "ROLE", requires = "show", value_parser = check::ROLES)]
    #[arg(help_heading = "By a token")]
    role: Option<String>,

    /// In which folders: all, or names with commas between them [default: all]
    #[arg(long, value_name = "all|LIST", requires = "show", help_heading = "By a token")]
    folders: Option<String>,

    /// Write the QR code to this file, as a PNG image that only you can read
    #[arg(long, value_name = "FILE", requires = "show", help_heading = "By a token")]
    qr_file: Option<PathBuf>,

    /// Read the token from a file that only you can read
    #[arg(long, value_name = "FILE", help_heading = "By a token", conflicts_with = "show")]
    from_file: Option<PathBuf>,

    /// Ask nothing; needs --expect-device. SSH stays off
    #[arg(long, requires = "expect_device", help_heading = "For scripts")]
    yes: bool,

    /// The only device to let in, which --yes lets in without a question
    #[arg(long, value_name = "kd1…", requires = "yes", help_heading = "For scripts")]
    expect_device: Option<String>,

    /// Close the window that kin pair --token has opened
    #[arg(long, group = "other", help_heading = "What was begun")]
    cancel: bool,

    /// List joins that wait for the other device
    #[arg(long, group = "other", help_heading = "What was begun")]
    status: bool,

    /// Give up joins that wait
    #[arg(long, group = "other", help_heading = "What was begun")]
    abandon: bool,

    /// Print events as JSON, one a line, and take answers from standard input
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

impl PairArgs {
    /// A token among the arguments, where others on this machine can read it (rule T20).
    pub(crate) fn exposed_token(&self) -> Option<&str> {
        self.peer.iter().find(|text| given::is_token(text)).map(String::as_str)
    }

    fn is_other(&self) -> bool {
        self.cancel || self.status || self.abandon
    }

    /// The flags that make no sense together with what only looks or ends something.
    fn refuse_more(&self) -> Result<(), CommandError> {
        let more = !self.peer.is_empty()
            || self.show
            || self.timeout.is_some()
            || self.into.is_some()
            || self.from_file.is_some()
            || self.yes;
        if more {
            return Err(CommandError::usage(
                "usage",
                "--cancel, --status and --abandon stand alone",
            ));
        }
        Ok(())
    }
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &PairArgs) -> Result<(), CommandError> {
    if args.is_other() {
        args.refuse_more()?;
        return other(screen, args).await;
    }
    if let Some(file) = &args.qr_file {
        qr::check_file(file)?;
    }
    let expected = args.expect_device.as_deref().map(expected).transpose()?;
    let given = given::given(&args.peer)?;
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let mut input = Input::stdin();
    let (request, patience) = if args.show {
        (token_window(args, expected.clone())?, None)
    } else if let Some(token) =
        token(screen, args, given.as_ref(), &mut input, &mut stop_asked).await?
    {
        if args.into.is_some() || args.group.is_some() || args.port.is_some() {
            return Err(CommandError::usage(
                "usage",
                "--into, --group and --port do not go with a token: it names the group",
            ));
        }
        if !args.json {
            say_whom(screen, &token);
        }
        let request = Request::PairJoin { token, expect_device: expected.clone() };
        (request, args.timeout.map(Duration::from_secs))
    } else {
        (lan(args, given, expected.clone()), None)
    };
    let device = Device::reach().await?;
    let mut json = Json::new(io::stdout());
    let mut person = Person::new(screen.clone());
    let show: &mut dyn ceremony::show::Show = if args.json { &mut json } else { &mut person };
    let qr_file = args.qr_file.clone();
    let ceremony =
        Ceremony { device: &device, show, input, stop_asked, expected, patience, qr_file };
    let ended = ceremony::run(request, ceremony).await;
    let runs = !device.is_within();
    device.close().await;
    if ended.is_ok() && !runs && !args.json {
        answers::say_start(screen);
    }
    ended
}

fn expected(text: &str) -> Result<String, CommandError> {
    let device: DeviceId = text.parse().map_err(|error| {
        CommandError::usage("device", &format!("--expect-device: {error}"))
            .hint("kin id prints it on the other device")
    })?;
    Ok(device.to_string())
}

fn lan(args: &PairArgs, given: Option<Given>, expect_device: Option<String>) -> Request {
    Request::Pair(PairLan {
        host: match given {
            Some(Given::Host(host)) => Some(host),
            _ => None,
        },
        into: match args.into {
            None => Which::Auto,
            Some(Into::Mine) => Which::Mine,
            Some(Into::Theirs) => Which::Theirs,
        },
        group: args.group.clone(),
        timeout: args.timeout,
        port: args.port,
        expect_device,
    })
}

fn token_window(args: &PairArgs, expect_device: Option<String>) -> Result<Request, CommandError> {
    if args.timeout.is_some() {
        return Err(CommandError::usage("usage", "--token ends with its window")
            .hint("say how long with --window"));
    }
    let window = args.window.as_deref().map(|text| when::span("--window", text)).transpose()?;
    if window.is_some_and(|window| !(1..=86_400).contains(&window)) {
        return Err(CommandError::usage("time", "--window: a window is open for 1s to 24h"));
    }
    let folders = match args.folders.as_deref() {
        None | Some("all") => None,
        Some(list) => {
            let names: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
            if names.iter().any(String::is_empty) {
                return Err(CommandError::usage("folders", "--folders: a name is empty")
                    .hint("write for example --folders Documents,Photos; kin folders lists them"));
            }
            Some(names)
        }
    };
    Ok(Request::PairToken(PairToken {
        window,
        role: args.role.clone(),
        folders,
        group: args.group.clone(),
        port: args.port,
        expect_device,
    }))
}

/// Whom a token asks. A window that is closed hears nothing, so nobody would say that it is.
fn say_whom(screen: &Screen, token: &str) {
    if let Ok(token) = Token::parse(token) {
        screen.line(&format!(
            "Asking {} to let this device in. If the token's window is closed there, nobody answers: Ctrl-C gives it \
             up, and kin pair --token there shows a new one.",
            short(&token.terms.device.to_string())
        ));
    }
}

/// The token that was given, in whatever way.
async fn token(
    screen: &Screen,
    args: &PairArgs,
    given: Option<&Given>,
    input: &mut Input,
    stop_asked: &mut tokio::sync::mpsc::Receiver<()>,
) -> Result<Option<String>, CommandError> {
    if let Some(file) = &args.from_file {
        let bytes = tree::read_secret_file(file).map_err(|error| {
            CommandError::usage("token", &error.to_string())
                .hint("a token's file can be read by you alone (chmod 600)")
        })?;
        return given::token(&String::from_utf8_lossy(&bytes)).map(Some);
    }
    match given {
        Some(Given::Handed(fd)) => {
            show_warning(screen, handover::EXPOSED);
            given::token(&handover::receive(*fd)?).map(Some)
        }
        Some(Given::Token(token)) => {
            // It could not be taken from the arguments.
            show_warning(screen, handover::EXPOSED);
            Ok(Some(token.clone()))
        }
        Some(Given::Input) => {
            input.ask(|discard| screen.ask("", "Token or link: ", discard));
            let typed = tokio::select! {
                typed = input.next() => typed,
                _ = stop_asked.recv() => {
                    screen.answered(false);
                    return Err(CommandError::failed("interrupted", "stopped; nothing is paired"));
                }
            };
            screen.answered(matches!(typed, Typed::Line(_)));
            input.pause();
            match typed {
                Typed::Line(line) => given::token(&line).map(Some),
                Typed::End => Err(CommandError::usage("token", "input ended before a token came")
                    .hint("paste the link that kin pair --token shows on the other device")),
            }
        }
        Some(Given::Host(_)) | None => Ok(None),
    }
}

/// What looks at joins, or ends them.
async fn other(screen: &Screen, args: &PairArgs) -> Result<(), CommandError> {
    let device = Device::reach().await?;
    if args.cancel {
        let answer: Value = device.ask(Request::PairCancel).await?;
        let closed = answer.get("closed").and_then(Value::as_bool) == Some(true);
        let said = if closed { "The window is closed." } else { "No window is open." };
        return answers::done(screen, args.json, &answer, said);
    }
    let request = if args.status { Request::PairStatus } else { Request::PairAbandon };
    let joins: Vec<JoinLine> = device.ask(request).await?;
    if args.json {
        return answers::json(&joins);
    }
    if joins.is_empty() {
        screen.line("No join waits.");
    } else if args.abandon {
        screen.line("Given up:");
    }
    answers::lines(&rows(&joins, &TimeZone::system()))
}

fn rows(joins: &[JoinLine], zone: &TimeZone) -> Vec<String> {
    let row = |join: &JoinLine| {
        let since = u64::try_from(join.since).unwrap_or(0).saturating_mul(1000);
        vec![
            named(&join.name, &join.device),
            crate::escape::escape(&join.ceremony),
            format!("since {}", when::show(since, zone)),
        ]
    };
    table(&joins.iter().map(row).collect::<Vec<_>>())
}

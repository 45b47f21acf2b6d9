//! `kin share`: a directory becomes a folder of the group, or is opened to somebody by a sharing code.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use jiff::tz::TimeZone;
use node::api::{CodeLine, FolderLine, IssuedCode, Request, ShareCode};
use tokio::time::sleep;

use super::codes;
use crate::{
    answers,
    ceremony::show,
    check,
    device::Device,
    error::CommandError,
    escape::escape,
    folders::{Mode, absolute, meant, place},
    output::{screen::Screen, terminal::WARNING},
    past,
    qr::{self, Qr},
    start, when,
};

const AFTER_HELP: &str = "\
Examples:
  kin share ~/Documents                on another device: kin join Documents
  kin share ~/Photos --name pictures   under another name
  kin share /srv/media --send-only     what others change is not applied here
  kin share ~/Photos --code            a code that lets one device in, to read, within a day
  kin share Photos --code --role writer --expires 7d --uses 3

All devices of the group may join it. Nothing leaves this device before one does.

A code lets whoever has it in to that one folder, without another question here unless --ask is given: hand it on as \
you would a key. A directory that is in no group gets one of its own with it, since a guest sees the names of the \
group's devices. What --expires ends is the code; who is in stays until kin devices remove.";

/// How long is waited for a relay to take a code, and how often is looked.
const POSTED: Duration = Duration::from_secs(3);
const LOOKED: Duration = Duration::from_millis(50);

/// Share a directory with the group, or with whoever has a code
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ShareArgs {
    /// The directory; with --code also the name of a folder that is shared already
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// What the folder is called [default: as the directory]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// With which group: name or the beginning of its id [default: the one in use]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    #[command(flatten)]
    mode: Mode,

    /// Issue a sharing code for it
    #[arg(long, help_heading = "By a code")]
    code: bool,

    /// What who joins by it may do: reader, writer or keeper [default: reader]
    #[arg(long, value_name = "ROLE", requires = "code", help_heading = "By a code")]
    #[arg(value_parser = ["reader", "writer", "keeper"])]
    role: Option<String>,

    /// How long it is good for: 30m, 24h, 7d, up to 366d [default: 24h]
    #[arg(long, value_name = "TIME", requires = "code", help_heading = "By a code")]
    expires: Option<String>,

    /// For how many devices, up to 1000 [default: 1]
    #[arg(long, value_name = "N", requires = "code", help_heading = "By a code")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: Option<u32>,

    /// Ask before each use: kin codes shows who waits
    #[arg(long, requires = "code", help_heading = "By a code")]
    ask: bool,

    /// Write the QR code to this file, as a PNG image that only you can read
    #[arg(long, value_name = "FILE", requires = "code", help_heading = "By a code")]
    qr_file: Option<PathBuf>,

    /// Print the folder, or the code, as a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: ShareArgs) -> Result<(), CommandError> {
    if let Some(name) = &args.name {
        check::folder_name("--name", name)?;
    }
    if args.code {
        return issue(screen, args).await;
    }
    start::check_dir(&args.dir)?;
    let dir = absolute(&args.dir)?;
    let device = Device::reach().await?;
    let (name, group, mode) = (args.name, args.group, args.mode.mode());
    let folder: FolderLine = device.ask(Request::Share { dir, name, group, mode }).await?;
    let runs = !device.is_within();
    let said = format!(
        "{} is shared with {} as {}. On another device: kin join {}",
        place(&folder),
        escape(&folder.group),
        escape(&folder.name),
        escape(&folder.name)
    );
    answers::done(screen, args.json, &folder, &said)?;
    if !runs && !args.json {
        answers::say_start(screen);
    }
    Ok(())
}

/// Issues a code, and shows it once.
async fn issue(screen: &Screen, args: ShareArgs) -> Result<(), CommandError> {
    if let Some(file) = &args.qr_file {
        qr::check_file(file)?;
    }
    let expires = args.expires.as_deref().map(|text| when::span("--expires", text)).transpose()?;
    let is_dir = start::check_dir(&args.dir).is_ok();
    let text = args.dir.to_string_lossy();
    let looks_like_path = text.contains('/') || text == "." || text == "..";
    if looks_like_path && !is_dir {
        start::check_dir(&args.dir)?;
    }
    let folder = meant(&text)?;
    let dir = is_dir.then(|| absolute(Path::new(&args.dir))).transpose()?;
    let device = Device::reach().await?;
    let runs = !device.is_within();
    let wish = ShareCode {
        folder,
        dir,
        name: args.name,
        group: args.group,
        role: args.role,
        expires,
        uses: args.uses,
        ask: args.ask,
    };
    let issued: Result<IssuedCode, CommandError> = device.ask(Request::ShareCode(wish)).await;
    let mut code = match issued {
        Ok(code) => code,
        Err(error) => {
            device.close().await;
            return Err(error);
        }
    };
    if args.json {
        settle(&device, &mut code).await;
        answers::json(std::slice::from_ref(&code))?;
    } else {
        // The code is the data; all else is talk.
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{}\n{}", escape(&code.code), escape(&code.link));
        past::written(written.and_then(|()| out.flush()))?;
        if let Some(columns) = show::columns() {
            show::show_qr(screen, &code.link, columns);
        }
        say(screen, &code, runs);
        settle(&device, &mut code).await;
        if let (Some(why), true) = (&code.unposted, runs) {
            let id = escape(&code.id.chars().take(8).collect::<String>());
            let why = codes::unposted(why);
            screen.line(&format!("{WARNING}warning:{WARNING:#} the code is {why}"));
            screen.line(&format!(
                "hint: who is on another network cannot join by it before. It is tried again; kin codes says of {id} \
                 how it is, kin relay list whether the relay is reached"
            ));
        }
    }
    device.close().await;
    match &args.qr_file {
        Some(file) => Qr::new(&code.link)?.write_png(file),
        None => Ok(()),
    }
}

/// Waits a little for a relay to take the code, or to say why it does not.
async fn settle(device: &Device, code: &mut IssuedCode) {
    let until = Instant::now() + POSTED;
    while code.unposted.as_deref() == Some("") && Instant::now() < until {
        sleep(LOOKED).await;
        let Ok(lines) = device.ask::<Vec<CodeLine>>(Request::Codes).await else { return };
        let Some(line) = lines.into_iter().find(|line| line.id == code.id) else { return };
        code.unposted = line.unposted;
    }
}

fn say(screen: &Screen, code: &IssuedCode, runs: bool) {
    let millis = u64::try_from(code.expires).unwrap_or(0).saturating_mul(1000);
    let until = when::show(millis, &TimeZone::system());
    let devices = match code.uses {
        1 => "one device".to_owned(),
        more => format!("{more} devices"),
    };
    let id = escape(&code.id.chars().take(8).collect::<String>());
    screen.line(&format!(
        "It lets {devices} in to {} (group {}) as {} until {until}. Give it to whoever is meant: kin join - there, then paste it.",
        escape(&code.name),
        escape(&code.group),
        escape(&code.role),
    ));
    let asks = match code.ask {
        true => "Each use waits for your yes: kin codes.",
        false => "Nobody is asked again here.",
    };
    screen
        .line(&format!("{asks} kin codes lists it as {id}; kin codes revoke {id} takes it back."));
    if !runs {
        screen.line(
            "note: this device does not run in the background, and who joins waits until it does: kin up",
        );
    }
}

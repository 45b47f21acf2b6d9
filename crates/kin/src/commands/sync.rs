//! `kin sync`: a folder in step with whoever else runs it here, now.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{ArgAction, Args};
use node::{Admission, SyncConfig};

use crate::{
    check,
    error::CommandError,
    escape::escape,
    input::Input,
    once::Once,
    output::{
        Output,
        json::Json,
        screen::Screen,
        terminal::{Terminal, show_warning},
    },
    passphrase, session,
    session::Session,
    settings::{self, Settings},
    signals,
};

const AFTER_HELP: &str = "\
Examples:
  kin sync ~/Shared                       find others on this network, compare, keep in step
  kin sync ~/Shared -a 192.168.1.7:9000   where discovery does not reach
  kin sync ~/Shared --passphrase          whoever knows the passphrase is let in, nobody is asked
  kin sync ~/Shared --once --json         for scripts: exit 0 when all agree

The other device shows the same words and numbers, or somebody sits in between: then answer n.
What is in .kinignore (gitignore syntax) stays here. All flags, the config file kin.toml, the
events of --json and the exit codes are described in docs/cli.md.";

/// Keep a folder in step with whoever else runs this here, now
///
/// Devices that run `kin sync` on the same network find each other, show each other's name and the same
/// short words and numbers, and after a yes on both sides their folders become one and stay so, both
/// ways, until Ctrl-C. Nothing needs to be set up, and nothing about the other devices is kept but what
/// the folder itself remembers in its .kin directory.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SyncArgs {
    /// The folder to keep in step
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// The folder, as a flag instead of an argument
    #[arg(short = 'd', long, value_name = "DIR", conflicts_with = "dir")]
    pub(crate) path: Option<PathBuf>,

    /// Name shown to other devices [default: this computer's host name]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Exclude what matches, in gitignore syntax; may be given many times
    #[arg(short, long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,

    /// Large files fetched at once, 1 to 64 [default: 4]
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrent_transfers: Option<u64>,

    /// Ask before more than this is deleted within 24 hours: files, or a share of them [default: 50%]
    #[arg(long, value_name = "N|N%")]
    pub(crate) max_deletes: Option<String>,

    /// Go on with deletions that are held, and with all up to the first agreement
    #[arg(long)]
    pub(crate) accept_deletes: bool,

    /// Days that replaced and deleted files are kept; 0: whatever their age [default: 30]
    #[arg(long, value_name = "DAYS")]
    pub(crate) history_days: Option<u64>,

    /// Percent of the disk that replaced and deleted files may take, 1 to 100 [default: 10]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) history_share: Option<u64>,

    /// Exit 0 as soon as this device and every connected peer agree
    #[arg(long)]
    pub(crate) once: bool,

    /// With --once: give up (exit 4) when nobody came, or nothing moved, for this long
    #[arg(long, value_name = "SECS", requires = "once", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub(crate) timeout: u64,

    /// Port to listen on; 0 takes any free one [default: 9000, or a free one if that is taken]
    #[arg(short, long, value_name = "PORT", help_heading = "Finding each other")]
    pub(crate) port: Option<u16>,

    /// Connect to this address; may be given many times
    #[arg(short = 'a', long, value_name = "HOST:PORT", help_heading = "Finding each other")]
    pub(crate) peer: Vec<String>,

    /// Neither search nor announce by mDNS
    #[arg(long, overrides_with = "discovery", help_heading = "Finding each other")]
    pub(crate) no_discovery: bool,

    /// Search and announce by mDNS, even if the config says no_discovery [default]
    #[arg(long, overrides_with = "no_discovery", help_heading = "Finding each other")]
    pub(crate) discovery: bool,

    /// Meet only devices with the same topic
    #[arg(long, value_name = "NAME", help_heading = "Finding each other")]
    pub(crate) topic: Option<String>,

    /// Ask for a passphrase: whoever knows it is let in, and nobody else
    #[arg(
        long,
        group = "admission",
        help_heading = "Who is let in (asked, if none of these is given)"
    )]
    pub(crate) passphrase: bool,

    /// As --passphrase, read from the first line of a file that only you can read
    #[arg(
        long,
        value_name = "FILE",
        group = "admission",
        help_heading = "Who is let in (asked, if none of these is given)"
    )]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Let in EVERY device that reaches this one, without asking
    #[arg(
        long,
        group = "admission",
        help_heading = "Who is let in (asked, if none of these is given)"
    )]
    pub(crate) open: bool,

    /// Print events as JSON, one a line, and take answers from standard input
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Say more; -vv and -vvv say even more
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &SyncArgs) -> Result<(), CommandError> {
    let config = settings::read()?;
    let settings = Settings::resolve(args, &config, check::default_name)?;
    crate::start::check_dir(&settings.dir)?;

    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let admission = admission(screen, args, &mut stop_asked).await?;

    let started = Instant::now();
    let beginning = Beginning::new(args, &settings);
    let (handle, events) = crate::start::start(sync_config(settings, admission)).await?;
    beginning.tell(screen);
    let mut json = Json::new(io::stdout());
    let mut terminal = Terminal::new(screen.clone(), args.verbose > 0);
    let output: &mut dyn Output = if args.json { &mut json } else { &mut terminal };
    let once = args.once.then(|| Once::new(started, Duration::from_secs(args.timeout)));
    session::run(&handle, events, Session { output, input: Input::stdin(), stop_asked, once }).await
}

fn sync_config(settings: Settings, admission: Admission) -> SyncConfig {
    SyncConfig {
        dir: settings.dir,
        keys: crate::device::state_dir().ok(),
        port: settings.port,
        port_is_required: settings.port_is_required,
        name: settings.name,
        peers: settings.peers,
        discovery: settings.discovery,
        excludes: settings.excludes,
        topic: settings.topic,
        admission,
        max_concurrent_transfers: settings.max_concurrent_transfers,
        max_deletes: settings.max_deletes,
        accept_deletes: settings.accept_deletes,
        history: settings.history,
    }
}

async fn admission(
    screen: &Screen,
    args: &SyncArgs,
    stop_asked: &mut tokio::sync::mpsc::Receiver<()>,
) -> Result<Admission, CommandError> {
    if args.open {
        return Ok(Admission::Open);
    }
    if args.passphrase {
        return passphrase::prompt(screen, stop_asked).await.map(Admission::Passphrase);
    }
    let Some(file) = &args.passphrase_file else {
        return Ok(Admission::Ask);
    };
    let what = format!("the passphrase file {}", file.display());
    let bytes = tree::read_secret_file(file).map_err(|error| {
        CommandError::usage("passphrase", &error.to_string())
            .hint("a passphrase file has one line and only you can read it (chmod 600)")
    })?;
    passphrase::from_file(&what, bytes).map(Admission::Passphrase)
}

/// What a person should know when it begins.
struct Beginning {
    dir: String,
    json: bool,
    open: bool,
    asks: bool,
}

impl Beginning {
    fn new(args: &SyncArgs, settings: &Settings) -> Self {
        Self {
            dir: escape(&settings.dir.to_string_lossy()),
            json: args.json,
            open: args.open,
            asks: !args.open && !args.passphrase && args.passphrase_file.is_none(),
        }
    }

    fn tell(&self, screen: &Screen) {
        let dir = &self.dir;
        if !self.json {
            screen.line(&format!("Keeping {dir} in step. Run kin sync on the other device too."));
        }
        if self.open {
            let warning = format!(
                "--open lets in EVERY device that reaches this one, without asking. \
                 Each can read, change and delete everything in {dir}."
            );
            show_warning(screen, &warning);
        }
        if self.asks && !self.json && !io::stdin().is_terminal() {
            screen.line(
                "note: standard input is not a terminal: its lines answer questions, and its end means no",
            );
        }
    }
}

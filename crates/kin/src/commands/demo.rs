//! `kin demo`: two devices in this process, over real links on the loopback interface.
//!
//! Nothing here is staged but the question: the demo holds both ends, so it compares for the person.

mod folders;

use std::{io, path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use node::{Admission, Event, Handle, QuestionId, SyncConfig};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::folders::Folders;
use crate::{
    error::{CommandError, Exit},
    escape::escape,
    output::{Output, json::Json, screen::Screen, terminal::Terminal},
    settings::DEFAULT_TRANSFERS,
    signals, start,
};

/// With `--once`: how long nothing may happen before it is given up.
const STANDSTILL: Duration = Duration::from_secs(60);

/// The two devices' names, and their folders'.
const NAMES: [&str; 2] = ["laptop", "desktop"];

const AFTER_HELP: &str = "\
Examples:
  kin demo                  a small sample; edit in either folder and watch the other
  kin demo ~/Documents      the same with a copy of a folder of yours (the original is not touched)
  kin demo --once           run through by itself: pair, sync, edit on both sides, compare, clean up";

/// Two devices on this machine, paired and syncing, to look at
///
/// Starts two devices in this process, each with a folder of its own in a new temporary directory, over
/// the same links that two machines would use. Edits made in either folder appear in the other until
/// Ctrl-C.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DemoArgs {
    /// A folder to copy and play with [default: a small sample]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Make an edit in each folder, compare both, clean up and exit
    #[arg(long)]
    once: bool,

    /// Print the events of both devices as JSON, one a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Log more; -vv and -vvv even more
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &DemoArgs) -> Result<(), CommandError> {
    if let Some(dir) = &args.dir {
        start::check_dir(dir)?;
    }
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let folders = Folders::make(NAMES, args.dir.as_deref())?;
    introduce(screen, args, &folders);
    let ended = play(screen, args, &folders, &mut stop_asked).await;
    if args.once && ended.is_ok() {
        return folders.remove();
    }
    let base = folders.keep();
    if !args.json {
        screen.line(&format!("Both folders are kept in {}.", shown(&base)));
    }
    ended
}

async fn play(
    screen: &Screen,
    args: &DemoArgs,
    folders: &Folders,
    stop_asked: &mut mpsc::Receiver<()>,
) -> Result<(), CommandError> {
    let laptop = Device::start(screen, args, folders, 0, vec![]).await?;
    let at = format!("127.0.0.1:{}", laptop.port);
    let desktop = match Device::start(screen, args, folders, 1, vec![at]).await {
        Ok(desktop) => desktop,
        Err(error) => {
            stop(vec![laptop]).await;
            return Err(error);
        }
    };
    let mut stage = Stage {
        screen,
        folders,
        once: args.once,
        json: args.json,
        devices: [laptop, desktop],
        comparison: Comparison::default(),
        together: false,
    };
    let ended = stage.watch(stop_asked).await;
    let skipped = stage.devices.iter_mut().flat_map(|device| std::mem::take(&mut device.skipped));
    let skipped: Vec<String> = skipped.collect();
    stop(stage.devices.into()).await;
    ended?;
    if args.once {
        let paths = folders.compare(&skipped)?;
        if !args.json {
            screen.line(&format!(
                "Both folders hold the same {paths} paths: contents, modes and times."
            ));
        }
    }
    Ok(())
}

fn introduce(screen: &Screen, args: &DemoArgs, folders: &Folders) {
    if args.json {
        let [laptop, desktop] =
            [folders.dir(0), folders.dir(1)].map(std::path::Path::to_string_lossy);
        // Whether anybody reads shows at the first event.
        let _ = Json::new(io::stdout()).demo(&laptop, &desktop);
        return;
    }
    screen.line("Two devices on this machine, each with a folder of its own:\n");
    for (index, name) in NAMES.iter().enumerate() {
        screen.line(&format!("    {name:<8} {}", shown(folders.dir(index))));
    }
    screen.line("");
    if folders.left_out() > 0 {
        let count = folders.left_out();
        screen.line(&format!("{count} things of the original are not in the copy: they may not be read, or never travel.\n"));
    }
}

fn shown(path: &std::path::Path) -> String {
    escape(&path.to_string_lossy())
}

/// One of the two.
struct Device {
    index: usize,
    handle: Handle,
    events: mpsc::Receiver<Event>,
    output: Box<dyn Output>,
    port: u16,
    in_sync: bool,
    /// True once the other's edit has arrived (`--once`).
    edit_arrived: bool,
    skipped: Vec<String>,
}

impl Device {
    /// Starts one and waits until it listens.
    async fn start(
        screen: &Screen,
        args: &DemoArgs,
        folders: &Folders,
        index: usize,
        peers: Vec<String>,
    ) -> Result<Self, CommandError> {
        let name = NAMES[index];
        let config = SyncConfig {
            dir: folders.dir(index).to_owned(),
            keys: None,
            port: 0,
            port_is_required: false,
            name: name.to_owned(),
            peers,
            discovery: false,
            excludes: Vec::new(),
            topic: format!("kin demo {}", std::process::id()),
            admission: Admission::Ask,
            max_concurrent_transfers: DEFAULT_TRANSFERS,
            max_deletes: node::DeleteLimit::OFF,
            accept_deletes: false,
            history: node::history::Limits::default(),
        };
        let (handle, mut events) = start::start(config).await?;
        let mut output: Box<dyn Output> = if args.json {
            Box::new(Json::on(io::stdout(), name))
        } else {
            Box::new(Terminal::on(screen.clone(), name))
        };
        loop {
            let Some(event) = events.recv().await else {
                return Err(ended_early(name));
            };
            output.event(&event).map_err(|error| closed(&error))?;
            if let Event::Listening { port, .. } = event {
                let (in_sync, edit_arrived) = (false, false);
                return Ok(Self {
                    index,
                    handle,
                    events,
                    output,
                    port,
                    in_sync,
                    edit_arrived,
                    skipped: vec![],
                });
            }
        }
    }
}

fn ended_early(name: &str) -> CommandError {
    CommandError::failed("demo", &format!("{name} has stopped by itself"))
        .hint("see above for what went wrong; -v tells more")
}

fn closed(error: &io::Error) -> CommandError {
    CommandError::failed("output", &format!("standard output is closed: {error}"))
}

struct Stage<'a> {
    screen: &'a Screen,
    folders: &'a Folders,
    once: bool,
    json: bool,
    devices: [Device; 2],
    comparison: Comparison,
    /// True once both were in sync.
    together: bool,
}

impl Stage<'_> {
    /// Runs until a signal or, with `--once`, until both edits have arrived.
    async fn watch(&mut self, stop_asked: &mut mpsc::Receiver<()>) -> Result<(), CommandError> {
        let mut deadline = Instant::now() + STANDSTILL;
        loop {
            let [laptop, desktop] = &mut self.devices;
            let (index, event) = tokio::select! {
                event = laptop.events.recv() => (0, event),
                event = desktop.events.recv() => (1, event),
                Some(()) = stop_asked.recv() => {
                    if self.once {
                        return Err(CommandError::failed("interrupted", "stopped before it was through"));
                    }
                    self.tell("finishing; press Ctrl-C again to stop at once");
                    return Ok(());
                }
                () = sleep_until(deadline), if self.once => return Err(self.stands_still()),
            };
            let Some(event) = event.filter(|event| *event != Event::Stopped) else {
                return Err(ended_early(NAMES[index]));
            };
            deadline = Instant::now() + STANDSTILL;
            self.event(index, event)?;
            if self.once && self.devices.iter().all(|device| device.edit_arrived) {
                return Ok(());
            }
        }
    }

    fn event(&mut self, index: usize, event: Event) -> Result<(), CommandError> {
        let device = &mut self.devices[index];
        match event {
            Event::Confirm { id, sas, .. } => return self.asked(index, id, sas),
            Event::InSync { .. } => device.in_sync = true,
            Event::Applied { ref path, .. } if path.as_str() == edit_name(1 - index) => {
                device.edit_arrived = true;
            }
            Event::Skipped { ref path, .. } => device.skipped.push(path.clone()),
            Event::Refused { ref reason, .. } => {
                return Err(CommandError::new(Exit::Refused, "refused", reason));
            }
            _ => {}
        }
        device.output.event(&event).map_err(|error| closed(&error))?;
        if !self.together && self.devices.iter().all(|device| device.in_sync) {
            self.together = true;
            self.in_sync()?;
        }
        Ok(())
    }

    /// A device asks about the other. When both ask, their strings are compared.
    fn asked(&mut self, index: usize, id: QuestionId, sas: String) -> Result<(), CommandError> {
        self.tell(&format!("{:>8}  shows: {}", NAMES[index], escape(&sas)));
        let Some((ids, equal)) = self.comparison.shown(index, id, sas) else {
            return Ok(());
        };
        for (device, id) in self.devices.iter().zip(ids) {
            device.handle.answer(id, equal);
        }
        if !equal {
            return Err(CommandError::failed(
                "demo",
                "the two devices show different words: somebody is in between",
            )
            .hint("nothing was synced"));
        }
        self.tell(
            "Both show the same, so nobody sits in between: the demo says yes on both sides.",
        );
        self.tell("(With kin sync it is you who compares and answers.)");
        Ok(())
    }

    /// Both folders are the same for the first time.
    fn in_sync(&mut self) -> Result<(), CommandError> {
        let [laptop, desktop] = [self.folders.dir(0), self.folders.dir(1)].map(shown);
        if !self.once {
            self.tell("\nBoth folders hold the same now. Edit something in either and look into the other:\n");
            self.tell(&format!("    echo hello > '{laptop}/hello.txt'\n    ls -la '{desktop}'\n"));
            self.tell("Ctrl-C stops and keeps the folders.");
            return Ok(());
        }
        for (index, name) in NAMES.iter().enumerate() {
            self.tell(&format!("An edit on {name}: {}", edit_name(index)));
            self.folders.edit(index, edit_name(index))?;
        }
        Ok(())
    }

    fn stands_still(&self) -> CommandError {
        let seconds = STANDSTILL.as_secs();
        let missing = match self.devices.iter().find(|device| !device.edit_arrived) {
            Some(device) if self.together => {
                format!("the other's edit did not reach {}", NAMES[device.index])
            }
            _ => "the two did not come in sync".to_owned(),
        };
        CommandError::new(
            Exit::TimedOut,
            "timeout",
            &format!("{missing}: nothing happened for {seconds} s"),
        )
        .hint("-v tells more")
    }

    fn tell(&self, line: &str) {
        if !self.json {
            self.screen.line(line);
        }
    }
}

/// The file that `--once` writes on a device.
fn edit_name(index: usize) -> &'static str {
    ["kin-demo-from-laptop.txt", "kin-demo-from-desktop.txt"][index]
}

/// Stops all, reading their last events meanwhile so that none waits for room.
async fn stop(devices: Vec<Device>) {
    let mut stopping = tokio::task::JoinSet::new();
    for Device { handle, mut events, .. } in devices {
        stopping.spawn(async move {
            let drain =
                async { while events.recv().await.is_some_and(|event| event != Event::Stopped) {} };
            let stop = async { handle.stop().await };
            tokio::join!(drain, stop);
        });
    }
    stopping.join_all().await;
}

/// What the two devices show, until both have shown it.
#[derive(Default, Debug)]
struct Comparison([Option<(QuestionId, String)>; 2]);

impl Comparison {
    /// Notes what one shows. When both have: their questions, and whether they show the same.
    fn shown(
        &mut self,
        index: usize,
        id: QuestionId,
        sas: String,
    ) -> Option<([QuestionId; 2], bool)> {
        self.0[index] = Some((id, sas));
        let [Some((first, at_first)), Some((second, at_second))] = &self.0 else {
            return None;
        };
        let equal = at_first == at_second && !at_first.is_empty();
        let ids = [*first, *second];
        self.0 = Default::default();
        Some((ids, equal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_only_if_both_show_the_same() {
        let compare = |one: &str, other: &str| {
            let mut comparison = Comparison::default();
            assert_eq!(comparison.shown(1, QuestionId(4), other.into()), None);
            comparison.shown(0, QuestionId(2), one.into()).expect("both have shown it")
        };
        assert_eq!(compare("maple 1", "maple 1"), ([QuestionId(2), QuestionId(4)], true));
        assert!(!compare("maple 1", "maple 2").1);
        assert!(!compare("", "").1);
    }

    #[test]
    fn a_question_asked_anew_replaces_the_earlier_one() {
        let mut comparison = Comparison::default();
        assert_eq!(comparison.shown(0, QuestionId(1), "old".into()), None);
        assert_eq!(comparison.shown(0, QuestionId(2), "new".into()), None);
        assert_eq!(
            comparison.shown(1, QuestionId(1), "new".into()),
            Some(([QuestionId(2), QuestionId(1)], true))
        );
    }
}

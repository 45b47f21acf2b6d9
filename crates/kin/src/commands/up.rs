//! `kin up`: the device in the background, or here.

use std::{
    env,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::{ArgAction, Args};
use node::{
    api::{ApiEvent, Request, Server, Service, StatusReply},
    device::Settings,
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tree::{LogFile, StateDir, StateLock};

use crate::{
    answers,
    device::{self, Device, Opened},
    error::{CommandError, Exit},
    logging, notify,
    output::screen::Screen,
    signals,
};

mod follow;

/// The log in the state directory, and how large it may become before it turns over, in bytes.
pub(crate) const LOG: &str = "kin.log";
const MAX_LOG: u64 = 4 << 20;
/// How long a device may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Set for the process that `kin up` starts itself: it leaves the terminal's session. No flag, which shells would offer.
const DETACHED: &str = "KIN_DETACHED";

const AFTER_HELP: &str = "\
kin status shows how it is doing, kin log what it said, kin down stops it. To start it with each login:
kin service install.";

/// Run the device in the background: links, and folders that stay in step
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct UpArgs {
    /// Run here until Ctrl-C, as a service manager wants it
    #[arg(long)]
    foreground: bool,

    /// Port to listen on; 0 takes any free one [default: 9001, or a free one if that is taken]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,

    /// Neither search nor announce by mDNS
    #[arg(long)]
    no_discovery: bool,

    /// With --foreground: print events as JSON, one a line
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    /// Log more, to the log file and, with --foreground, here; -vv and -vvv even more
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(crate) verbose: u8,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: &UpArgs) -> Result<(), CommandError> {
    let state = std::path::absolute(device::state_dir()?)
        .map_err(|error| CommandError::failed("io", &format!("the state directory: {error}")))?;
    if args.foreground {
        return foreground(screen, args, &state).await;
    }
    if let Some(running) = Device::running_at(&state).await? {
        return runs_already(screen, args, &running).await;
    }
    let mut child = spawn(args, &state)?;
    let patience = Instant::now() + PATIENCE;
    while Device::running_at(&state).await?.is_none() {
        let ended = child.try_wait().map_err(|error| {
            CommandError::failed("io", &format!("the device was started and is lost: {error}"))
        })?;
        if ended.is_some() {
            return Err(why_ended(child));
        }
        if Instant::now() > patience {
            return Err(CommandError::new(
                Exit::TimedOut,
                "timeout",
                "the device was started and does not answer yet",
            )
            .hint("kin log shows what it does"));
        }
        sleep(LOOK_EVERY).await;
    }
    let log = crate::escape::escape(&state.join(LOG).to_string_lossy());
    screen.line(&format!(
        "The device runs in the background. kin down stops it; its log is {log}, and kin log shows it."
    ));
    Ok(())
}

/// What is wished of a start a device that runs does not do.
async fn runs_already(
    screen: &Screen,
    args: &UpArgs,
    running: &Device,
) -> Result<(), CommandError> {
    if let Some(port) = args.port.filter(|port| *port != 0) {
        let status: StatusReply = running.ask(Request::Status).await?;
        if status.port != port {
            let message = format!("the device runs already, on port {}", status.port);
            let hint = format!("kin down stops it; then kin up -p {port}");
            return Err(CommandError::failed("in_use", &message).hint(&hint));
        }
    }
    screen.line("The device runs already.");
    Ok(())
}

/// Starts this program again, without a terminal.
fn spawn(args: &UpArgs, state: &Path) -> Result<Child, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::failed("io", &format!("the device cannot be started: {error}"))
    };
    let mut command = Command::new(env::current_exe().map_err(failed)?);
    command.args(["up", "--foreground", "--json"]).env(DETACHED, "1");
    command.args(std::iter::repeat_n("--verbose", args.verbose.into()));
    if let Some(port) = args.port {
        command.arg(format!("--port={port}"));
    }
    if args.no_discovery {
        command.arg("--no-discovery");
    }
    // It must not keep a disk busy, and must find its state from elsewhere.
    command.current_dir("/");
    if env::var_os("KIN_HOME").is_some_and(|home| !home.is_empty()) {
        command.env("KIN_HOME", state);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(failed)
}

/// What the device that did not come up said last.
fn why_ended(mut child: Child) -> CommandError {
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // What cannot be read was not said.
        let _ = stdout.read_to_string(&mut said);
    }
    let last = said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let word = |key| last.as_ref().and_then(|line| line.get(key)).and_then(Value::as_str);
    let exit = child.wait().ok().and_then(|status| status.code());
    let exit = if exit == Some(2) { Exit::Usage } else { Exit::Failed };
    let kind = word("kind").unwrap_or("stopped").to_owned();
    let message = word("message").unwrap_or("the device was started and has ended at once");
    CommandError::new(exit, kind, message).hint(word("hint").unwrap_or("kin log may say why"))
}

async fn foreground(screen: &Screen, args: &UpArgs, state: &Path) -> Result<(), CommandError> {
    let detached = env::var_os(DETACHED).is_some();
    if detached {
        // Fails only for the leader of a session, which needs no other.
        let _ = rustix::process::setsid();
    }
    let mut stop_asked = signals::listen()
        .map_err(|error| CommandError::failed("io", &format!("cannot handle signals: {error}")))?;
    let log = StateDir::open(state)
        .and_then(|state| LogFile::open(&state, LOG, MAX_LOG))
        .map_err(device::explain)?;
    let here = (!detached && args.verbose > 0).then(|| screen.clone());
    logging::to_file(args.verbose, log, here);
    let told = |error: &CommandError| tracing::error!(kind = %error.kind, "{error}");
    let wished = follow::Wished::read(args.port, args.no_discovery).inspect_err(told)?;
    let opened = open(state, &wished.settings).await.inspect_err(told)?;
    let online = wished.online;
    let port = match opened.device.go_online(online).await {
        Ok(port) => port,
        Err(failure) => {
            opened.device.stop().await;
            tracing::error!(kind = failure.kind, "{failure}");
            return Err(failure.into());
        }
    };
    tracing::info!(port, "the device listens");
    if !args.json {
        screen.line(&format!("The device runs on port {port}. Ctrl-C stops it."));
    }
    let tell = |event: &ApiEvent| match (args.json, detached) {
        (true, false) => answers::json(std::slice::from_ref(event)),
        _ => Ok(()),
    };
    let Opened { device, lock } = opened;
    let following = tokio::spawn(follow::follow(device.clone(), wished));
    let ended = hold(state, Arc::new(device.clone()), &lock, &mut stop_asked, tell).await;
    following.abort();
    // It has stopped already, unless it was the socket that failed.
    device.stop().await;
    match &ended {
        Ok(()) => tracing::info!("the device has stopped"),
        Err(error) => tracing::error!(kind = %error.kind, "{error}"),
    }
    ended
}

/// Answers at the socket until a signal or a request stops the device.
async fn hold(
    state: &Path,
    service: Arc<dyn Service>,
    lock: &StateLock,
    stop_asked: &mut mpsc::Receiver<()>,
    mut tell: impl FnMut(&ApiEvent) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut events = service.stream(Request::Events).await?;
    let server = Server::bind(state, device::runtime_dir().as_deref(), lock)?;
    let socket = server.path().display().to_string();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket, "the device runs");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(Arc::clone(&service), async {
        // A sender that is gone means the same.
        let _ = stopped.await;
    }));
    notify::service_manager("READY=1");
    let mut asked = false;
    let ended = loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(ApiEvent::Stopped) => break Ok(()),
                None if asked => break Ok(()),
                None => break Err(CommandError::failed("stopped", "the device has stopped by itself")
                    .hint("kin log may say why")),
                Some(event) => {
                    log(&event);
                    tell(&event)?;
                }
            },
            Some(()) = stop_asked.recv(), if !asked => {
                asked = true;
                notify::service_manager("STOPPING=1");
                let _: Value = service.request(Request::Down).await?;
            }
        }
    };
    notify::service_manager("STOPPING=1");
    // Nobody waits for it if the serving task is gone already.
    let _ = stop.send(());
    let _ = serving.await;
    ended
}

/// Opens the device. Another command may be at the state just now.
async fn open(state: &Path, settings: &Settings) -> Result<Opened, CommandError> {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match device::open_with(state, settings.clone()) {
            Err(error) if error.kind == "in_use" && Instant::now() < patience => {
                if Device::running_at(state).await?.is_some() {
                    return Err(CommandError::failed("in_use", "the device runs already")
                        .hint("kin status shows it, kin down stops it"));
                }
                sleep(LOOK_EVERY).await;
            }
            opened => return opened,
        }
    }
}

fn log(event: &ApiEvent) {
    match event {
        // Who has a token may ask to join, and questions are between people: neither is for a log.
        ApiEvent::Token { .. }
        | ApiEvent::Request { .. }
        | ApiEvent::Confirm { .. }
        | ApiEvent::Ask { .. } => {}
        ApiEvent::FolderChanged { .. } | ApiEvent::InSync { .. } => {
            tracing::debug!(event = ?event);
        }
        ApiEvent::Error { kind, message, hint } => tracing::warn!(kind, ?message, ?hint),
        other => tracing::info!(event = ?other),
    }
}

/// Where a device's log is.
pub(crate) fn log_path(state: &Path) -> PathBuf {
    state.join(LOG)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use node::api::{Answer, Failure};
    use tempfile::tempdir;

    use super::*;

    /// A device that does nothing but end.
    #[derive(Default)]
    struct Fake(Mutex<Option<mpsc::Sender<ApiEvent>>>);

    impl Service for Fake {
        fn request(&self, request: Request) -> Answer<'_, Value> {
            Box::pin(async move {
                let sender = match request {
                    Request::Down => self.0.lock().unwrap().take(),
                    _ => return Ok(Value::Null),
                };
                if let Some(sender) = sender {
                    sender.send(ApiEvent::Stopped).await.unwrap();
                }
                Ok(Value::Null)
            })
        }

        fn stream(&self, request: Request) -> Answer<'_, mpsc::Receiver<ApiEvent>> {
            Box::pin(async move {
                if request != Request::Events {
                    return Err(Failure::failed("test", "is not asked for"));
                }
                let (send, receive) = mpsc::channel(4);
                *self.0.lock().unwrap() = Some(send);
                Ok(receive)
            })
        }
    }

    struct Held {
        dir: tempfile::TempDir,
        fake: Arc<Fake>,
        stop: mpsc::Sender<()>,
        told: Arc<Mutex<Vec<ApiEvent>>>,
        holding: tokio::task::JoinHandle<Result<(), CommandError>>,
    }

    /// A device that runs and answers.
    async fn held() -> Held {
        let dir = tempdir().unwrap();
        let lock = StateDir::open(dir.path()).unwrap().lock().unwrap();
        let fake = Arc::new(Fake::default());
        let service: Arc<dyn Service> = fake.clone();
        let (stop, mut stop_asked) = mpsc::channel(1);
        let state = dir.path().to_owned();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = told.clone();
            move |event: &ApiEvent| {
                told.lock().unwrap().push(event.clone());
                Ok(())
            }
        };
        let holding =
            tokio::spawn(async move { hold(&state, service, &lock, &mut stop_asked, tell).await });
        while Device::running_at(dir.path()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        Held { dir, fake, stop, told, holding }
    }

    #[tokio::test]
    async fn a_device_answers_until_it_is_told_to_stop() {
        let held = held().await;
        let device = Device::running_at(held.dir.path()).await.unwrap().unwrap();
        let events = held.fake.0.lock().unwrap().clone().unwrap();
        events.send(ApiEvent::GroupChanged { group: "home".into() }).await.unwrap();
        drop(events);
        let _: Value = device.ask(Request::Down).await.unwrap();
        held.holding.await.unwrap().unwrap();
        assert_eq!(*held.told.lock().unwrap(), [ApiEvent::GroupChanged { group: "home".into() }]);
        assert!(Device::running_at(held.dir.path()).await.unwrap().is_none());
        StateDir::open(held.dir.path()).unwrap().lock().expect("is free again");
    }

    #[tokio::test]
    async fn a_signal_stops_it_too() {
        let held = held().await;
        held.stop.send(()).await.unwrap();
        held.holding.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_a_failure() {
        let held = held().await;
        held.fake.0.lock().unwrap().take();
        assert_eq!(held.holding.await.unwrap().unwrap_err().kind, "stopped");
        assert!(!held.dir.path().join("api.sock").exists());
    }
}

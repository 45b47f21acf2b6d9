//! What `kin ssh listen`, `pair` and `sync` have in common: flags, and from flags to a run.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use identity::DeviceId;
use node::{
    Home,
    api::{Request, StatusReply},
};
use ssh::{
    Cidr, Here, KeyKind, OwnKey, SshError,
    meet::{BEFORE, Connecto, Setup, Target},
};
use wire::{session::Name, ssh::Purpose};

use crate::{
    check,
    device::{self, Device},
    error::CommandError,
    ssh_files, when,
};

/// Shortest and longest leave, in seconds.
const EXPIRES: std::ops::RangeInclusive<u64> = 60..=10 * 365 * 86_400;
/// The first OpenSSH whose `expiry-time=` knows UTC.
const KNOWS_UTC: (u32, u32) = (9, 1);

/// Which of Connecto's protocols
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Protocol {
    /// What the other side understands
    Any,
    /// One JSON object a line, as its program speaks
    Json,
    /// HELLO and PUBKEY, as its documentation says
    Text,
}

/// Flags of all three.
#[derive(Args, Debug)]
pub(super) struct CommonArgs {
    /// What this device calls itself [default: its name in its groups, or its host name]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,

    /// Speak with devices that run Connecto, too. That proves nothing about who they are
    #[arg(long, value_name = "PROTOCOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "any")]
    pub(super) connecto: Option<Protocol>,

    /// Ask nothing; needs --expect-device
    #[arg(long, requires = "expect_device", help_heading = "For scripts")]
    yes: bool,

    /// The only device to accept, which --yes accepts without a question
    #[arg(long, value_name = "kd1…", requires = "yes", help_heading = "For scripts")]
    expect_device: Option<String>,
}

/// Flags of those that let somebody in.
#[derive(Args, Debug)]
pub(super) struct LetInArgs {
    /// Port to listen on
    #[arg(short, long, value_name = "PORT", default_value_t = ssh::connecto::PORT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Only devices in this network may connect; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow_from: Vec<Cidr>,

    /// The other device may log in for this long only: 90m, 24h, 30d [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,

    /// The other device may log in from this network only; may be repeated [default: from anywhere]
    #[arg(long, value_name = "CIDR")]
    from: Vec<Cidr>,
}

/// Flags of those that log in.
#[derive(Args, Debug)]
pub(super) struct LogInArgs {
    /// A key of yours to log in with; it stays as it is [default: one that kin makes once]
    #[arg(short, long, value_name = "PATH")]
    key: Option<PathBuf>,

    /// Use an RSA key of 4096 bits instead of Ed25519
    #[arg(long, conflicts_with = "key")]
    rsa: bool,

    /// The key's comment, where one is shown [default: USER@NAME]
    #[arg(short, long, value_name = "TEXT")]
    comment: Option<String>,
}

impl LogInArgs {
    fn own(&self, here: &Here, comment: &str) -> Result<OwnKey, CommandError> {
        Ok(match (&self.key, self.rsa) {
            (Some(path), _) => here.home.given_key(path)?,
            (None, true) => here.home.key_or_new(KeyKind::Rsa, comment)?,
            (None, false) if here.settings.default_key.is_some() => here.key()?,
            (None, false) => here.home.key_or_new(here.settings.key_kind, comment)?,
        })
    }
}

/// What a run is given.
pub(super) struct Given<'a> {
    pub(super) purpose: Purpose,
    pub(super) common: &'a CommonArgs,
    pub(super) let_in: Option<&'a LetInArgs>,
    pub(super) log_in: Option<&'a LogInArgs>,
    pub(super) target: Target,
    pub(super) continuous: bool,
    pub(super) timeout: Option<Duration>,
}

impl Given<'_> {
    /// Reads this device's keys and the user's files, makes what is missing, and checks what was asked for.
    pub(super) async fn setup(self) -> Result<Setup, CommandError> {
        let CommonArgs { name, connecto, expect_device, .. } = self.common;
        let expect = expect_device.as_deref().map(expected).transpose()?;
        let name = match name {
            Some(name) => name.clone(),
            None => own_name().await,
        };
        check::name("--name", &name)?;
        let name = Name::new(&name)
            .map_err(|error| CommandError::usage("name", &format!("--name: {error}")))?;
        let expires = match self.let_in.and_then(|args| args.expires.as_deref()) {
            None => None,
            Some(text) => Some(end(text)?),
        };
        let here = ssh_files::open()?;
        let keys = Home::open(&device::state_dir()?).map_err(|error| {
            CommandError::failed(error.kind(), &error.to_string())
                .hint(&error.hint().unwrap_or_default())
        })?;
        let (device, inbox) = keys.into_keys();
        let comment = match self.log_in.and_then(|args| args.comment.clone()) {
            Some(comment) => one_line(&comment)?,
            None => format!("{}@{}", here.home.user(), dashed(name.as_str())),
        };
        let own = self.log_in.map(|args| args.own(&here, &comment)).transpose()?;
        let sshd = here.sshd();
        let let_in = self.let_in;
        Ok(Setup {
            purpose: self.purpose,
            device: Arc::new(device),
            inbox: inbox.id(),
            name,
            port: let_in.map_or(0, |args| args.port),
            target: self.target,
            home: Arc::new(here.home),
            sshd,
            own,
            comment,
            continuous: self.continuous,
            timeout: self.timeout,
            before: BEFORE,
            allow_from: let_in.map(|args| args.allow_from.clone()).unwrap_or_default(),
            expires,
            from: let_in.map(|args| args.from.clone()).unwrap_or_default(),
            expect,
            connecto: connecto.map(which),
        })
    }
}

/// What this device is called in its groups, if it is in some; else the host's name.
async fn own_name() -> String {
    let asked = async {
        let device = Device::reach().await?;
        let status: Result<StatusReply, CommandError> = device.ask(Request::Status).await;
        device.close().await;
        status
    };
    // A device that keeps its name to itself is no reason to let nobody in.
    let known = if device::exists() { asked.await.ok() } else { None };
    known.map_or_else(check::default_name, |status| status.name)
}

pub(super) fn which(protocol: Protocol) -> Connecto {
    match protocol {
        Protocol::Any => Connecto::Any,
        Protocol::Json => Connecto::Json,
        Protocol::Text => Connecto::Text,
    }
}

/// When a leave of this length ends, in seconds since 1970; this machine's sshd must know how to end it.
pub(super) fn end(text: &str) -> Result<i64, CommandError> {
    let seconds = when::span("--expires", text)?;
    if !EXPIRES.contains(&seconds) {
        return Err(CommandError::usage("time", "--expires: from one minute to ten years"));
    }
    if let Some((major, minor)) = ssh::openssh_version().filter(|version| *version < KNOWS_UTC) {
        let said =
            format!("OpenSSH {major}.{minor} on this machine takes no end of a leave in UTC");
        return Err(SshError::Sshd(said).into());
    }
    let end = (when::now() / 1000).saturating_add(seconds);
    Ok(i64::try_from(end).unwrap_or(i64::MAX))
}

fn expected(text: &str) -> Result<DeviceId, CommandError> {
    text.parse().map_err(|error| {
        CommandError::usage("device", &format!("--expect-device: {error}"))
            .hint("kin id prints it on the other device")
    })
}

fn one_line(comment: &str) -> Result<String, CommandError> {
    if comment.len() > 128 || !comment.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(CommandError::usage(
            "comment",
            "--comment: up to 128 printable characters of ASCII",
        ));
    }
    Ok(comment.to_owned())
}

fn dashed(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

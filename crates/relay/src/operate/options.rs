//! What an operator may say, in three places: as a flag, in the environment, in a file.

use std::{
    ffi::OsString,
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use tree::FileError;

use super::DEFAULT_PORT;
use crate::{
    Limits, Rate,
    store::{LaneQuota, Quotas},
};

/// Variables of the environment begin so: `KIN_RELAY_LISTEN`.
const PREFIX: &str = "KIN_RELAY_";
/// Largest file in bytes.
const MAX_FILE: usize = 64 << 10;

/// Why options make no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Where to listen.
    #[error("--{option}: {given} is no address to listen on")]
    Listen {
        /// Which option.
        option: &'static str,
        /// What it says.
        given: String,
    },
    /// A number with which nothing could be done.
    #[error("--{option}: 0 makes no sense")]
    Zero {
        /// Which option.
        option: &'static str,
    },
    /// Which store. What was said may hold a password, and is not shown.
    #[error("there is no store of this kind")]
    Store,
    /// A certificate without its key, or the other way round.
    #[error("--cert and --cert-key go together")]
    HalfCertificate,
    /// A variable.
    #[error("{name}: {why}")]
    Environment {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FileError),
    /// The environment names no directory to keep anything in.
    #[error("there is no place for the relay's store and key")]
    NoDirectory,
}

impl OptionsError {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Listen { .. } | Self::Zero { .. } | Self::Store | Self::HalfCertificate => {
                "usage"
            }
            Self::Environment { .. } | Self::File { .. } | Self::Unreadable(_) => "config",
            Self::NoDirectory => "no_home",
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Listen { .. } => {
                "say [HOST]:PORT, for example :8443, 192.0.2.7:8443 or [::1]:8443"
            }
            Self::Store => "say sqlite, or postgres://USER@HOST/DATABASE",
            Self::NoDirectory => "say --dir DIR",
            Self::Zero { .. } => "say at least 1, or leave it out",
            Self::Environment { .. } => "docs/cli.md names all variables: kin relay",
            _ => "",
        }
    }
}

macro_rules! options {
    ($($(#[$attribute:meta])* $name:ident: $kind:ty,)*) => {
        /// All of them. What is not said has a default.
        #[derive(Clone, Default, Debug, Deserialize, clap::Args)]
        #[serde(deny_unknown_fields)]
        pub struct Options {
            $($(#[$attribute])* pub $name: Option<$kind>,)*
        }

        impl Options {
            /// What is not said here is taken from there.
            fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }
        }
    };
}

options! {
    /// Where to listen: [HOST]:PORT; without a host on every address, IPv6 and IPv4
    #[arg(long, value_name = "[HOST]:PORT")]
    listen: String,
    /// The name or address in the relay's address, by which devices reach it
    #[arg(long, value_name = "NAME")]
    host: String,
    /// The port in the relay's address, if it is another one than it listens on
    #[arg(long, value_name = "PORT")]
    public_port: u16,
    /// Where its key and its store are
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// sqlite, in the directory; or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "STORE")]
    store: String,
    /// Where other relays on the same database reach this one, to join splices
    #[arg(long, value_name = "HOST:PORT")]
    reach: String,
    /// A certificate chain in PEM, to be known by it instead of by a key of its own
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its key in PEM, which only its owner can read
    #[arg(long, value_name = "FILE")]
    cert_key: PathBuf,
    /// Where metrics and health can be read, in plain HTTP
    #[arg(long, value_name = "[HOST]:PORT")]
    metrics: String,
    /// A TOML file with the same options, in snake_case
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: PathBuf,
    /// Connections at once
    #[arg(long, value_name = "N", help_heading = "Limits")]
    connections: usize,
    /// Connections at once from one source (an IPv4 address, an IPv6 /64)
    #[arg(long, value_name = "N", help_heading = "Limits")]
    connections_per_source: usize,
    /// New connections a minute from one source
    #[arg(long, value_name = "N", help_heading = "Limits")]
    connects_per_minute: u32,
    /// Entries a minute that one source asks for
    #[arg(long, value_name = "N", help_heading = "Limits")]
    gets_per_minute: u32,
    /// Entries and mailboxes a minute that one source puts, makes, changes or removes
    #[arg(long, value_name = "N", help_heading = "Limits")]
    changes_per_minute: u32,
    /// KiB a minute that one source deposits
    #[arg(long, value_name = "KIB", help_heading = "Limits")]
    deposit_kib_per_minute: u32,
    /// Splices at once
    #[arg(long, value_name = "N", help_heading = "Limits")]
    splices: usize,
    /// Ends of splices at once from one source
    #[arg(long, value_name = "N", help_heading = "Limits")]
    splices_per_source: usize,
    /// Seconds after which a splice ends on which nothing is said
    #[arg(long, value_name = "SECS", help_heading = "Limits")]
    splice_idle: u64,
    /// Envelopes in the members' lane of a mailbox
    #[arg(long, value_name = "N", help_heading = "Quotas")]
    members_envelopes: u64,
    /// KiB in the members' lane of a mailbox
    #[arg(long, value_name = "KIB", help_heading = "Quotas")]
    members_kib: u64,
    /// Envelopes in the strangers' lane of a mailbox
    #[arg(long, value_name = "N", help_heading = "Quotas")]
    strangers_envelopes: u64,
    /// KiB in the strangers' lane of a mailbox
    #[arg(long, value_name = "KIB", help_heading = "Quotas")]
    strangers_kib: u64,
    /// Entries at the rendezvous
    #[arg(long, value_name = "N", help_heading = "Quotas")]
    max_entries: u64,
    /// Mailboxes
    #[arg(long, value_name = "N", help_heading = "Quotas")]
    max_mailboxes: u64,
    /// MiB of all envelopes
    #[arg(long, value_name = "MIB", help_heading = "Quotas")]
    max_mib: u64,
}

impl Options {
    /// These, then the environment's, then the file's.
    pub(super) fn complete(
        self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, OptionsError> {
        let mut said_there = Self::default();
        let mut config = None;
        for (name, value) in environment {
            let name = name.into_string().unwrap_or_default();
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            let wrong = |why: &str| {
                let why = why.to_owned();
                OptionsError::Environment { name: name.clone(), why }
            };
            let value = value.into_string().map_err(|_| wrong("it is no text"))?;
            if key == "CONFIG" {
                config = Some(PathBuf::from(value));
                continue;
            }
            let alone = |value| {
                let one = toml::Table::from_iter([(key.to_ascii_lowercase(), value)]);
                one.try_into::<Self>().map_err(|error| wrong(&said(&error)))
            };
            let text = toml::Value::String(value.clone());
            let one = match value.parse() {
                // A host or a directory may look like a number.
                Ok(number) => {
                    alone(toml::Value::Integer(number)).or_else(|error| alone(text).or(Err(error)))
                }
                Err(_) => alone(text),
            };
            said_there = one?.or(said_there);
        }
        let file = match self.config.clone().or(config) {
            Some(path) => {
                let text = tree::read_config(&path, MAX_FILE)?;
                toml::from_str(&text).map_err(|error| {
                    let line = error.span().map(|span| {
                        text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
                    });
                    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                    OptionsError::File { path, why: format!("{line}{}", said(&error)) }
                })?
            }
            None => Self::default(),
        };
        let all = self.or(said_there).or(file);
        if all.cert.is_some() != all.cert_key.is_some() {
            return Err(OptionsError::HalfCertificate);
        }
        match all.zero() {
            Some(option) => Err(OptionsError::Zero { option }),
            None => Ok(all),
        }
    }

    /// One that says 0 where a relay could do nothing with it. Without splices, entries or strangers it can.
    fn zero(&self) -> Option<&'static str> {
        let numbers = [
            ("public-port", self.public_port.map(u64::from)),
            ("connections", self.connections.map(|number| number as u64)),
            ("connections-per-source", self.connections_per_source.map(|number| number as u64)),
            ("connects-per-minute", self.connects_per_minute.map(u64::from)),
            ("gets-per-minute", self.gets_per_minute.map(u64::from)),
            ("changes-per-minute", self.changes_per_minute.map(u64::from)),
            ("deposit-kib-per-minute", self.deposit_kib_per_minute.map(u64::from)),
            ("splice-idle", self.splice_idle),
            ("members-envelopes", self.members_envelopes),
            ("members-kib", self.members_kib),
            ("max-mailboxes", self.max_mailboxes),
            ("max-mib", self.max_mib),
        ];
        numbers.into_iter().find(|(_, number)| *number == Some(0)).map(|(option, _)| option)
    }

    pub(super) fn listen(&self) -> Result<SocketAddr, OptionsError> {
        match &self.listen {
            None => Ok((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()),
            Some(given) => address("listen", given),
        }
    }

    pub(super) fn metrics(&self) -> Result<Option<SocketAddr>, OptionsError> {
        self.metrics.as_deref().map(|given| address("metrics", given)).transpose()
    }

    pub(super) fn reach(&self) -> Result<Option<(String, u16)>, OptionsError> {
        let Some(given) = &self.reach else { return Ok(None) };
        let parsed = given.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some((host.to_owned(), port.parse().ok()?))
        });
        let wrong = || OptionsError::Listen { option: "reach", given: given.clone() };
        parsed.map(Some).ok_or_else(wrong)
    }

    pub(super) fn limits(&self) -> Limits {
        let default = Limits::default();
        // A burst in the same proportion as that of the default.
        let rate = |per_minute: Option<u32>, default: Rate| match per_minute {
            None => default,
            Some(per_minute) => {
                let burst = u64::from(per_minute) * u64::from(default.burst.get())
                    / u64::from(default.per_minute.get());
                Rate::new(u32::try_from(burst).unwrap_or(u32::MAX), per_minute)
            }
        };
        Limits {
            connections: self.connections.unwrap_or(default.connections),
            connections_per_source: self
                .connections_per_source
                .unwrap_or(default.connections_per_source),
            connects: rate(self.connects_per_minute, default.connects),
            gets: rate(self.gets_per_minute, default.gets),
            changes: rate(self.changes_per_minute, default.changes),
            deposits: rate(self.deposit_kib_per_minute, default.deposits),
            splices: self.splices.unwrap_or(default.splices),
            splices_per_source: self.splices_per_source.unwrap_or(default.splices_per_source),
            splice_idle: self.splice_idle.map_or(default.splice_idle, Duration::from_secs),
            ..default
        }
    }

    pub(super) fn quotas(&self) -> Quotas {
        let default = Quotas::default();
        let lane = |envelopes: Option<u64>, kib: Option<u64>, default: LaneQuota| LaneQuota {
            envelopes: envelopes.unwrap_or(default.envelopes),
            bytes: kib.map_or(default.bytes, |kib| kib.saturating_mul(1 << 10)),
        };
        Quotas {
            members: lane(self.members_envelopes, self.members_kib, default.members),
            strangers: lane(self.strangers_envelopes, self.strangers_kib, default.strangers),
            entries: self.max_entries.unwrap_or(default.entries),
            mailboxes: self.max_mailboxes.unwrap_or(default.mailboxes),
            bytes: self.max_mib.map_or(default.bytes, |mib| mib.saturating_mul(1 << 20)),
        }
    }
}

/// What TOML says, in one line.
fn said(error: &toml::de::Error) -> String {
    error.message().replace('\n', ", ")
}

fn address(option: &'static str, given: &str) -> Result<SocketAddr, OptionsError> {
    let whole = match given.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => given.to_owned(),
    };
    whole.parse().map_err(|_| OptionsError::Listen { option, given: given.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(given: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        given
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = tree::StateDir::open(dir.path()).unwrap();
        state
            .create("relay.toml", b"listen = ':1'\nhost = 'file'\nsplices = 3\nmax_mib = 1\n")
            .unwrap();
        let path = dir.path().join("relay.toml");
        let flags = Options { listen: Some(":3".into()), ..Options::default() };
        let environment = [
            ("KIN_RELAY_CONFIG", path.to_str().unwrap()),
            ("KIN_RELAY_LISTEN", ":2"),
            ("KIN_RELAY_HOST", "environment"),
            ("KIN_RELAY_GETS_PER_MINUTE", "600"),
            ("OTHER", "x"),
        ];
        let all = flags.complete(variables(&environment)).unwrap();
        assert_eq!(all.listen().unwrap().port(), 3);
        assert_eq!(all.host.as_deref(), Some("environment"));
        assert_eq!(all.splices, Some(3));
        assert_eq!(all.limits().gets, Rate::new(600, 600));
        assert_eq!(all.quotas().bytes, 1 << 20);
    }

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_said() {
        let wrong = |name, value| {
            let error = Options::default().complete(variables(&[(name, value)])).unwrap_err();
            (error.kind(), error.to_string())
        };
        let (kind, words) = wrong("KIN_RELAY_LISTENN", ":1");
        assert!(kind == "config" && words.starts_with("KIN_RELAY_LISTENN: "), "{words}");
        let (kind, words) = wrong("KIN_RELAY_SPLICES", "many");
        assert!(kind == "config" && words.starts_with("KIN_RELAY_SPLICES: "), "{words}");
        let (kind, words) = wrong("KIN_RELAY_PUBLIC_PORT", "70000");
        assert!(kind == "config" && words.starts_with("KIN_RELAY_PUBLIC_PORT: "), "{words}");
        assert_eq!(wrong("KIN_RELAY_CERT", "/x").0, "usage");
        let file = wrong("KIN_RELAY_CONFIG", "/nowhere/relay.toml").1;
        assert!(file.contains("/nowhere/relay.toml"), "{file}");
        for listen in ["8443", "host:1", ":", ":70000", "[::1]"] {
            let options = Options { listen: Some(listen.into()), ..Options::default() };
            assert!(options.listen().is_err(), "{listen}");
        }
        let all = Options { listen: Some(":0".into()), ..Options::default() };
        assert_eq!(all.listen().unwrap(), "[::]:0".parse().unwrap());
    }

    #[test]
    fn a_name_that_looks_like_a_number_is_a_name() {
        let all = Options::default().complete(variables(&[("KIN_RELAY_DIR", "17")])).unwrap();
        assert_eq!(all.dir, Some("17".into()));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let state = tree::StateDir::open(dir.path()).unwrap();
        let text = "# about it\n\nhost = 'x'\n\n\nlistenn = ':1'\n";
        state.create("relay.toml", text.as_bytes()).unwrap();
        let config = Some(dir.path().join("relay.toml"));
        let options = Options { config, ..Options::default() };
        let words = options.complete(variables(&[])).unwrap_err().to_string();
        assert!(words.contains("relay.toml: line 6: "), "{words}");
    }

    #[test]
    fn numbers_with_which_a_relay_could_do_nothing_are_refused() {
        for option in [
            "PUBLIC_PORT",
            "CONNECTIONS",
            "CONNECTIONS_PER_SOURCE",
            "CONNECTS_PER_MINUTE",
            "GETS_PER_MINUTE",
            "CHANGES_PER_MINUTE",
            "DEPOSIT_KIB_PER_MINUTE",
            "SPLICE_IDLE",
            "MEMBERS_ENVELOPES",
            "MEMBERS_KIB",
            "MAX_MAILBOXES",
            "MAX_MIB",
        ] {
            let name = format!("KIN_RELAY_{option}");
            let error = Options::default().complete(variables(&[(&name, "0")])).unwrap_err();
            let flag = format!("--{}: 0 ", option.to_ascii_lowercase().replace('_', "-"));
            assert!(error.to_string().starts_with(&flag), "{error}");
            assert_eq!(error.kind(), "usage");
        }
        let off = [("KIN_RELAY_SPLICES", "0"), ("KIN_RELAY_STRANGERS_KIB", "0")];
        assert!(Options::default().complete(variables(&off)).is_ok());
    }
}

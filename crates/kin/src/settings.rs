//! What a `kin sync` run, or the device in the background, is to do: flags over the config file over defaults.

use std::path::PathBuf;

use node::{
    DeleteLimit,
    device::{self, Online},
    history::Limits,
};
use tree::FileError;

use crate::{
    check,
    commands::sync::SyncArgs,
    config::{self, Config, Value},
    error::CommandError,
};

/// Tried first where no port is asked for.
pub(crate) const DEFAULT_PORT: u16 = 9000;
/// Large files fetched at once where nothing is asked for.
pub(crate) const DEFAULT_TRANSFERS: usize = 4;

/// All that flags and config decide, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// True if a flag or the config names the port, also if it names the default.
    pub(crate) port_is_required: bool,
    pub(crate) name: String,
    pub(crate) peers: Vec<String>,
    pub(crate) discovery: bool,
    pub(crate) excludes: Vec<String>,
    pub(crate) topic: String,
    pub(crate) max_concurrent_transfers: usize,
    pub(crate) max_deletes: DeleteLimit,
    pub(crate) accept_deletes: bool,
    pub(crate) history: Limits,
}

impl Settings {
    /// Decides. A flag that is given counts, also if it says what is the default (dsync fault 15);
    /// a list given by flags replaces the list of the config.
    ///
    /// # Errors
    /// The first value that is wrong, named by flag or by file and line; or that no directory is given.
    pub(crate) fn resolve(
        args: &SyncArgs,
        config: &Config,
        default_name: impl FnOnce() -> String,
    ) -> Result<Self, CommandError> {
        let dir = args.dir.as_ref().or(args.path.as_ref()).cloned();
        let Some(dir) = dir.or_else(|| config.path.as_ref().map(|path| path.value.clone())) else {
            return Err(CommandError::usage("usage", "no directory is given")
                .hint("say which folder to sync, for example: kin sync ~/Shared"));
        };
        let port = args.port.or(config.port.as_ref().map(|port| port.value));

        let (what, name) = pick("--name", args.name.as_ref(), "name", config, config.name.as_ref());
        let name = name.unwrap_or_else(default_name);
        check::name(&what, &name)?;

        let (what, topic) =
            pick("--topic", args.topic.as_ref(), "topic", config, config.topic.as_ref());
        let topic = topic.unwrap_or_default();
        check::topic(&what, &topic)?;

        let flag = some_list(&args.peer);
        let (what, peers) = pick("--peer", flag, "peer", config, config.peer.as_ref());
        let peers = peers.unwrap_or_default();
        check::list(&what, peers.len())?;
        peers.iter().try_for_each(|peer| check::peer(&what, peer))?;

        let flag = some_list(&args.exclude);
        let (what, excludes) = pick("--exclude", flag, "exclude", config, config.exclude.as_ref());
        let excludes = excludes.unwrap_or_default();
        check::list(&what, excludes.len())?;
        excludes.iter().try_for_each(|pattern| check::exclude(&what, pattern))?;

        let key = "max_concurrent_transfers";
        let flag = args.max_concurrent_transfers.as_ref();
        let in_config = config.max_concurrent_transfers.as_ref();
        let (what, transfers) = pick("--max-concurrent-transfers", flag, key, config, in_config);
        let max_concurrent_transfers =
            transfers.map_or(Ok(DEFAULT_TRANSFERS), |count| check::transfers(&what, count))?;

        let flag = args.max_deletes.as_ref();
        let (what, max_deletes) =
            pick("--max-deletes", flag, "max_deletes", config, config.max_deletes.as_ref());
        let max_deletes = max_deletes
            .map_or(Ok(DeleteLimit::default()), |limit| check::max_deletes(&what, &limit))?;
        let (what, days) = pick(
            "--history-days",
            args.history_days.as_ref(),
            "history_days",
            config,
            config.history_days.as_ref(),
        );
        let days = check::history_days(&what, days)?;
        let (what, share) = pick(
            "--history-share",
            args.history_share.as_ref(),
            "history_share",
            config,
            config.history_share.as_ref(),
        );
        let share = check::history_share(&what, share)?;

        let no_discovery = if args.no_discovery || args.discovery {
            args.no_discovery
        } else {
            config.no_discovery.as_ref().is_some_and(|no| no.value)
        };

        Ok(Self {
            dir,
            port: port.unwrap_or(DEFAULT_PORT),
            port_is_required: port.is_some(),
            name,
            peers,
            discovery: !no_discovery,
            excludes,
            topic,
            max_concurrent_transfers,
            max_deletes,
            accept_deletes: args.accept_deletes,
            history: Limits { days, share },
        })
    }
}

/// The config file, if there is one.
///
/// # Errors
/// If it cannot be read, or is wrong.
pub(crate) fn read() -> Result<Config, CommandError> {
    let Some(file) = config::location(|name| std::env::var_os(name)) else {
        return Ok(Config::default());
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match tree::read_config(&file, config::MAX_CONFIG) {
        Ok(text) => Config::parse(&file, &text, home.as_deref()),
        Err(FileError::NotFound(_)) => Ok(Config::default()),
        Err(error) => Err(CommandError::usage("config", &error.to_string())
            .hint("this is the config file; mend it or move it away")),
    }
}

/// What the device in the background is to do: its flags, over the config file.
///
/// # Errors
/// The first value that is wrong, named by file and line.
pub(crate) fn of_device(
    port: Option<u16>,
    no_discovery: bool,
    config: &Config,
) -> Result<(device::Settings, Online), CommandError> {
    let mut settings = device::Settings::new(&check::default_name());
    if let Some(found) = &config.max_concurrent_transfers {
        let what = config.what("max_concurrent_transfers", found);
        settings.max_concurrent_transfers = check::transfers(&what, found.value)?;
    }
    if let Some(found) = &config.max_deletes {
        settings.max_deletes =
            check::max_deletes(&config.what("max_deletes", found), &found.value)?;
    }
    if let Some(found) = &config.history_days {
        settings.history.days =
            check::history_days(&config.what("history_days", found), Some(found.value))?;
    }
    if let Some(found) = &config.history_share {
        settings.history.share =
            check::history_share(&config.what("history_share", found), Some(found.value))?;
    }
    if let Some(found) = &config.device_relay {
        let what = config.what("relay", found);
        settings.relays = found.value.clone();
        check::relays(&what, &settings.relays)?;
    }
    let port = port.or(config.device_port.as_ref().map(|port| port.value));
    let off = no_discovery || config.device_no_discovery.as_ref().is_some_and(|no| no.value);
    let online = Online {
        port: port.unwrap_or(device::DEFAULT_PORT),
        port_is_required: port.is_some_and(|port| port != 0),
        discovery: !off,
    };
    Ok((settings, online))
}

fn some_list(list: &Vec<String>) -> Option<&Vec<String>> {
    (!list.is_empty()).then_some(list)
}

/// The flag's value, else the config's, and how a message names where it came from.
fn pick<T: Clone>(
    flag: &str,
    value: Option<&T>,
    key: &str,
    config: &Config,
    in_config: Option<&Value<T>>,
) -> (String, Option<T>) {
    match (value, in_config) {
        (Some(value), _) => (flag.to_owned(), Some(value.clone())),
        (None, Some(found)) => (config.what(key, found), Some(found.value.clone())),
        (None, None) => (flag.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: SyncArgs,
    }

    const FULL: &str = "path = '/from/config'\nport = 7000\nname = 'config'\npeer = 'config:1'\n\
        no_discovery = true\nexclude = ['*.config']\ntopic = 'config'\nmax_concurrent_transfers = 7\nmax_deletes = '70%'\n\
        history_days = 7\nhistory_share = 7\n";

    fn resolve(config: &str, flags: &[&str]) -> Result<Settings, CommandError> {
        let args = Wrapper::try_parse_from([&["kin"], flags].concat()).expect("parses").args;
        let config = Config::parse(Path::new("/c/kin.toml"), config, None)?;
        Settings::resolve(&args, &config, || "host".to_owned())
    }

    fn defaults(dir: &str) -> Settings {
        Settings {
            dir: dir.into(),
            port: 9000,
            port_is_required: false,
            name: "host".into(),
            peers: vec![],
            discovery: true,
            excludes: vec![],
            topic: String::new(),
            max_concurrent_transfers: 4,
            max_deletes: DeleteLimit { files: 9, percent: 50 },
            accept_deletes: false,
            history: Limits { days: 30, share: 10 },
        }
    }

    fn from_config() -> Settings {
        Settings {
            dir: "/from/config".into(),
            port: 7000,
            port_is_required: true,
            name: "config".into(),
            peers: vec!["config:1".into()],
            discovery: false,
            excludes: vec!["*.config".into()],
            topic: "config".into(),
            max_concurrent_transfers: 7,
            max_deletes: DeleteLimit { files: 9, percent: 70 },
            accept_deletes: false,
            history: Limits { days: 7, share: 7 },
        }
    }

    #[test]
    fn defaults_then_config() {
        assert_eq!(resolve("", &["/d"]), Ok(defaults("/d")));
        assert_eq!(resolve(FULL, &[]), Ok(from_config()));
    }

    #[test]
    fn each_flag_overrides_its_key_and_no_other() {
        type Change = fn(&mut Settings);
        let cases: [(&[&str], Change); 15] = [
            (&["/flag"], |s| s.dir = "/flag".into()),
            (&["-d", "/flag"], |s| s.dir = "/flag".into()),
            (&["--path", "/flag"], |s| s.dir = "/flag".into()),
            (&["-p", "8000"], |s| s.port = 8000),
            (&["-n", "flag"], |s| s.name = "flag".into()),
            (&["-a", "flag:1", "--peer", "flag:2"], |s| {
                s.peers = vec!["flag:1".into(), "flag:2".into()];
            }),
            (&["--discovery"], |s| s.discovery = true),
            (&["--no-discovery"], |s| s.discovery = false),
            (&["-e", "*.flag"], |s| s.excludes = vec!["*.flag".into()]),
            (&["--topic", "flag"], |s| s.topic = "flag".into()),
            (&["--max-concurrent-transfers", "1"], |s| s.max_concurrent_transfers = 1),
            (&["--max-deletes", "1000"], |s| {
                s.max_deletes = DeleteLimit { files: 1000, percent: 0 };
            }),
            (&["--accept-deletes"], |s| s.accept_deletes = true),
            (&["--history-days", "0"], |s| s.history.days = 0),
            (&["--history-share", "100"], |s| s.history.share = 100),
        ];
        for (flags, change) in cases {
            let mut expected = from_config();
            change(&mut expected);
            assert_eq!(resolve(FULL, flags), Ok(expected), "{flags:?}");
        }
    }

    #[test]
    fn dsync_15_a_flag_that_says_the_default_still_overrides() {
        let settings =
            resolve(FULL, &["-p", "9000", "--topic", "", "--max-concurrent-transfers", "4"]);
        let settings = settings.expect("right");
        assert_eq!((settings.port, settings.port_is_required), (9000, true));
        assert_eq!((settings.topic.as_str(), settings.max_concurrent_transfers), ("", 4));
    }

    #[test]
    fn a_port_that_anybody_named_is_required() {
        assert!(!resolve("", &["/d"]).expect("right").port_is_required);
        assert!(resolve("", &["/d", "-p", "9000"]).expect("right").port_is_required);
        assert!(resolve("port = 9000", &["/d"]).expect("right").port_is_required);
    }

    #[test]
    fn of_two_discovery_flags_the_last_counts() {
        assert!(resolve("", &["/d", "--no-discovery", "--discovery"]).expect("right").discovery);
        assert!(!resolve("", &["/d", "--discovery", "--no-discovery"]).expect("right").discovery);
    }

    #[test]
    fn the_device_heeds_its_flags_then_its_table_then_what_is_for_all() {
        let of = |text: &str, port, quiet| {
            let config = Config::parse(Path::new("/c/kin.toml"), text, None)?;
            of_device(port, quiet, &config)
        };
        let (plain, online) = of("port = 1\nno_discovery = true", None, false).unwrap();
        assert_eq!(online, Online { port: 9001, port_is_required: false, discovery: true });
        assert_eq!(plain, device::Settings::new(&check::default_name()));
        let text = "max_deletes = '7'\nhistory_days = 3\nhistory_share = 4\n\
            max_concurrent_transfers = 2\n[device]\nport = 5\nno_discovery = true\n";
        let (settings, online) = of(text, None, false).unwrap();
        assert_eq!(online, Online { port: 5, port_is_required: true, discovery: false });
        assert_eq!(settings.max_deletes, DeleteLimit { files: 7, percent: 0 });
        assert_eq!(settings.history, Limits { days: 3, share: 4 });
        assert_eq!(settings.max_concurrent_transfers, 2);
        let (with_relays, _) = of("[device]\nrelay = 'kin:relay/a:1'", None, false).unwrap();
        assert_eq!(with_relays.relays, ["kin:relay/a:1"]);
        let wrong = of("[device]\nrelay = ['x']", None, false).unwrap_err();
        assert!(wrong.message.starts_with("/c/kin.toml, line 2: relay: \"x\""), "{wrong}");
        let (_, online) = of(text, Some(0), false).unwrap();
        assert_eq!((online.port, online.port_is_required), (0, false));
        assert!(!of("", None, true).unwrap().1.discovery);
        let wrong = of("\nhistory_share = 0", None, false).unwrap_err();
        assert!(wrong.message.starts_with("/c/kin.toml, line 2: history_share"), "{wrong}");
    }

    #[test]
    fn errors_name_the_flag_or_the_file_and_line() {
        let message =
            |config, flags: &[&str]| resolve(config, flags).expect_err("is wrong").message;
        assert_eq!(message("", &[]), "no directory is given");
        assert!(message("", &["/d", "-a", "laptop"]).starts_with("--peer: \"laptop\""));
        assert!(
            message("\npeer = ['a:1', 'x']", &["/d"])
                .starts_with("/c/kin.toml, line 2: peer: \"x\"")
        );
        assert!(message("name = ''", &["/d"]).starts_with("/c/kin.toml, line 1: name"));
        assert!(message("", &["/d", "-e", "a{b"]).starts_with("--exclude"));
        assert!(message("max_concurrent_transfers = 0", &["/d"]).contains("line 1"));
        for wrong in ["", "%", "101%", "-1", "half", "50 %", "1.5%"] {
            let said = message("", &["/d", &format!("--max-deletes={wrong}")]);
            assert!(said.starts_with("--max-deletes"), "{said}");
        }
        assert!(message("max_deletes = 'x'", &["/d"]).contains("line 1: max_deletes"));
        assert!(message("history_days = 40000", &["/d"]).contains("line 1: history_days: 40000"));
        assert!(message("", &["/d", "--history-share", "0"]).starts_with("--history-share: 0"));
        assert!(message("", &["/d", "--history-share", "101"]).contains("out of range"));
        assert!(message("topic = \"\\u001b\"", &["/d"]).contains("U+001B"));
    }
}

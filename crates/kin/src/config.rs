//! The config file `kin.toml`: where it is, and what it says.
//!
//! Every key is optional and every value is overridden by a flag (`crate::settings`). A key that does
//! not exist is an error, so that a typing mistake is not silently nothing.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::error::CommandError;

/// Largest config file that is read, in bytes (64 KiB): its parser takes up to a thousand times as much for
/// one that is all mistakes.
pub(crate) const MAX_CONFIG: usize = 64 << 10;

/// A value and the line it stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Value<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// What a config file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Config {
    /// The file it was read from; relative paths in it start at its directory.
    pub(crate) file: PathBuf,
    pub(crate) path: Option<Value<PathBuf>>,
    pub(crate) port: Option<Value<u16>>,
    pub(crate) name: Option<Value<String>>,
    pub(crate) peer: Option<Value<Vec<String>>>,
    pub(crate) no_discovery: Option<Value<bool>>,
    pub(crate) exclude: Option<Value<Vec<String>>>,
    pub(crate) topic: Option<Value<String>>,
    pub(crate) max_concurrent_transfers: Option<Value<u64>>,
    pub(crate) max_deletes: Option<Value<String>>,
    pub(crate) history_days: Option<Value<u64>>,
    pub(crate) history_share: Option<Value<u64>>,
    /// Of `[device]`: what counts for the device in the background only.
    pub(crate) device_port: Option<Value<u16>>,
    pub(crate) device_no_discovery: Option<Value<bool>>,
    pub(crate) device_relay: Option<Value<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    path: Option<Spanned<String>>,
    port: Option<Spanned<u16>>,
    name: Option<Spanned<String>>,
    peer: Option<Spanned<OneOrMany>>,
    no_discovery: Option<Spanned<bool>>,
    exclude: Option<Spanned<OneOrMany>>,
    topic: Option<Spanned<String>>,
    max_concurrent_transfers: Option<Spanned<u64>>,
    max_deletes: Option<Spanned<String>>,
    history_days: Option<Spanned<u64>>,
    history_share: Option<Spanned<u64>>,
    #[serde(default)]
    device: RawDevice,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    port: Option<Spanned<u16>>,
    no_discovery: Option<Spanned<bool>>,
    relay: Option<Spanned<OneOrMany>>,
}

impl Config {
    /// Reads `text`, the contents of `file`. `home` is the user's home directory, for `~/` in `path`.
    ///
    /// # Errors
    /// One line that names the file, the line and what is wrong there.
    pub(crate) fn parse(
        file: &Path,
        text: &str,
        home: Option<&Path>,
    ) -> Result<Self, CommandError> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let what = error.message().lines().collect::<Vec<_>>().join(" ");
            CommandError::usage("config", &format!("{}, line {line}: {what}", file.display()))
                .hint("the keys are path, port, name, peer, no_discovery, exclude, topic, max_concurrent_transfers, max_deletes, history_days and history_share, and in [device] port, no_discovery and relay")
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        Ok(Self {
            file: file.to_owned(),
            path: located(text, raw.path, |path| absolute(base, home, &path)),
            port: located(text, raw.port, |port| port),
            name: located(text, raw.name, |name| name),
            peer: located(text, raw.peer, |peer| peer.0),
            no_discovery: located(text, raw.no_discovery, |no| no),
            exclude: located(text, raw.exclude, |exclude| exclude.0),
            topic: located(text, raw.topic, |topic| topic),
            max_concurrent_transfers: located(text, raw.max_concurrent_transfers, |count| count),
            max_deletes: located(text, raw.max_deletes, |limit| limit),
            history_days: located(text, raw.history_days, |days| days),
            history_share: located(text, raw.history_share, |share| share),
            device_port: located(text, raw.device.port, |port| port),
            device_no_discovery: located(text, raw.device.no_discovery, |no| no),
            device_relay: located(text, raw.device.relay, |relay| relay.0),
        })
    }

    /// How messages name `key` of this file.
    pub(crate) fn what<T>(&self, key: &str, value: &Value<T>) -> String {
        format!("{}, line {}: {key}", self.file.display(), value.line)
    }
}

/// Where the config file is, whether or not there is one: `KIN_HOME/kin.toml` if that is set, else
/// `%APPDATA%\kin\kin.toml` on Windows and `kin/kin.toml` in the XDG config directory elsewhere.
pub(crate) fn location(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let dir = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = dir("KIN_HOME") {
        return Some(home.join("kin.toml"));
    }
    if cfg!(windows) {
        return Some(dir("APPDATA")?.join("kin").join("kin.toml"));
    }
    // The XDG specification says to ignore a relative directory.
    let config = dir("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    let config = config.or_else(|| Some(dir("HOME")?.join(".config")))?;
    Some(config.join("kin").join("kin.toml"))
}

/// Where what outlives a run is kept: `KIN_HOME` if that is set, else `%LOCALAPPDATA%\kin` on Windows and
/// `kin` in the XDG state directory elsewhere.
pub(crate) fn state_dir(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let dir = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = dir("KIN_HOME") {
        return Some(home);
    }
    if cfg!(windows) {
        return Some(dir("LOCALAPPDATA")?.join("kin"));
    }
    // The XDG specification says to ignore a relative directory.
    let state = dir("XDG_STATE_HOME").filter(|dir| dir.is_absolute());
    let state = state.or_else(|| Some(dir("HOME")?.join(".local").join("state")))?;
    Some(state.join("kin"))
}

fn located<T, U>(
    text: &str,
    spanned: Option<Spanned<T>>,
    make: impl FnOnce(T) -> U,
) -> Option<Value<U>> {
    spanned.map(|spanned| {
        let line = line_of(text, spanned.span().start);
        Value { value: make(spanned.into_inner()), line }
    })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

fn absolute(base: &Path, home: Option<&Path>, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}

/// A string, or a list of strings.
struct OneOrMany(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> de::Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, one: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![one.to_owned()]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
        let mut many = Vec::new();
        while let Some(one) = seq.next_element()? {
            many.push(one);
        }
        Ok(OneOrMany(many))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/home/ann/.config/kin/kin.toml";

    fn parse(text: &str) -> Result<Config, CommandError> {
        Config::parse(Path::new(FILE), text, Some(Path::new("/home/ann")))
    }

    fn error(text: &str) -> String {
        let error = parse(text).expect_err("is wrong");
        assert_eq!((&*error.kind, error.exit.code(), error.hints.len()), ("config", 2, 1));
        error.message
    }

    #[test]
    fn every_key() {
        let config = parse(
            "path = 'docs'\nport = 9001\nname = 'x'\npeer = ['a:1', 'b:2']\nno_discovery = true\n\
             exclude = '*.o'\ntopic = 't'\nmax_concurrent_transfers = 2\n\
             history_days = 7\nhistory_share = 5\n[device]\nport = 7\nno_discovery = true\nrelay = 'r'\n",
        )
        .expect("right");
        assert_eq!(config.path.expect("set").value, Path::new("/home/ann/.config/kin/docs"));
        assert_eq!(config.port, Some(Value { value: 9001, line: 2 }));
        assert_eq!(config.peer, Some(Value { value: vec!["a:1".into(), "b:2".into()], line: 4 }));
        assert_eq!(config.exclude.expect("set").value, ["*.o"]);
        assert_eq!(config.max_concurrent_transfers, Some(Value { value: 2, line: 8 }));
        assert_eq!(config.history_days, Some(Value { value: 7, line: 9 }));
        assert_eq!(config.history_share, Some(Value { value: 5, line: 10 }));
        assert_eq!(config.device_port, Some(Value { value: 7, line: 12 }));
        assert_eq!(config.device_no_discovery, Some(Value { value: true, line: 13 }));
        assert_eq!(config.device_relay, Some(Value { value: vec!["r".into()], line: 14 }));
    }

    #[test]
    fn peer_is_a_string_or_a_list() {
        assert_eq!(parse("peer = 'a:1'").expect("right").peer.expect("set").value, ["a:1"]);
        assert_eq!(parse("peer = []").expect("right").peer.expect("set").value, [""; 0]);
        assert!(error("peer = 7").contains("a string or a list of strings"));
    }

    #[test]
    fn paths_start_at_the_file_or_at_home() {
        let path = |text| parse(text).expect("right").path.expect("set").value;
        assert_eq!(path("path = '../x'"), Path::new("/home/ann/.config/kin/../x"));
        assert_eq!(path("path = '~/Shared'"), Path::new("/home/ann/Shared"));
        assert_eq!(path("path = '/srv/x'"), Path::new("/srv/x"));
    }

    #[test]
    fn errors_name_file_and_line() {
        let unknown = error("port = 1\n\nprot = 9000\n");
        assert!(unknown.starts_with(&format!("{FILE}, line 3: unknown field `prot`")), "{unknown}");
        assert!(error("name = 'x'\nport = 99999").contains("line 2"));
        assert!(error("a b c").contains("line 1"));
        assert!(error("path = 'x'\npath = 'y'").contains("line 2"));
        assert!(error("port = '9000'").contains("line 1"));
        assert!(error("[sync]\nport = 1").contains("line 1"));
        assert!(error("[device]\n\nname = 'x'").contains("line 3: unknown field `name`"));
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(parse("# nothing\n"), Ok(Config { file: FILE.into(), ..Config::default() }));
    }

    #[test]
    fn the_file_is_found_by_environment() {
        let at = |vars: &[(&str, &str)]| {
            location(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
        };
        if cfg!(windows) {
            assert_eq!(
                at(&[("APPDATA", "X")]),
                Some(PathBuf::from("X").join("kin").join("kin.toml"))
            );
            return;
        }
        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.config/kin/kin.toml".into()));
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]),
            Some("/x/kin/kin.toml".into())
        );
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]),
            Some("/h/.config/kin/kin.toml".into())
        );
        assert_eq!(at(&[("HOME", "/h"), ("KIN_HOME", "/k")]), Some("/k/kin.toml".into()));
        assert_eq!(at(&[("HOME", "/h"), ("KIN_HOME", "")]), Some("/h/.config/kin/kin.toml".into()));
        assert_eq!(at(&[]), None);
    }
}

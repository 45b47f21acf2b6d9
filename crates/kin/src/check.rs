//! Checks of what a person asked for, made before anything is opened or created.
//!
//! Each takes `what`, the name of the flag or config key the value came from, for the message.

use ignore::gitignore::GitignoreBuilder;
use node::DeleteLimit;
use node::history::Limits;

use crate::{error::CommandError, escape::is_unsafe};

/// Longest device name and topic in bytes.
pub(crate) const MAX_NAME: usize = 64;
/// Longest host name in bytes (RFC 1035), with room for the brackets and zone of an IPv6 address.
const MAX_HOST: usize = 255;
/// Longest exclude pattern in bytes: the longest path, as everywhere else.
const MAX_PATTERN: usize = 4096;
/// Most addresses and most patterns that one run takes.
const MAX_LIST: usize = 1024;

/// What a device may do in a group (design.md, section 1).
pub(crate) const ROLES: [&str; 4] = ["admin", "writer", "reader", "keeper"];

/// A device name: 1 to 64 bytes, nothing invisible, not only spaces.
pub(crate) fn name(what: &str, name: &str) -> Result<(), CommandError> {
    if name.trim().is_empty() {
        return Err(CommandError::usage("name", &format!("{what}: a device needs a name"))
            .hint("leave it out to use this computer's host name"));
    }
    text("name", what, name)
}

/// A folder's name: as a device's, and fit to be the name of a directory.
pub(crate) fn folder_name(what: &str, name: &str) -> Result<(), CommandError> {
    text("name", what, name)?;
    let trimmed = name.trim();
    if trimmed.is_empty() || name.contains('/') || name.starts_with(['.', '-']) {
        return Err(CommandError::usage(
            "name",
            &format!("{what}: \"{name}\" is no folder's name"),
        )
        .hint("use a plain name without a slash, which begins with neither a dot nor a dash"));
    }
    Ok(())
}

/// A topic: up to 64 bytes, nothing invisible; may be empty.
pub(crate) fn topic(what: &str, topic: &str) -> Result<(), CommandError> {
    text("topic", what, topic)
}

fn text(kind: &'static str, what: &str, text: &str) -> Result<(), CommandError> {
    if text.len() > MAX_NAME {
        let message = format!("{what}: \"{text}\" is {} bytes long", text.len());
        return Err(
            CommandError::usage(kind, &message).hint(&format!("use at most {MAX_NAME} bytes"))
        );
    }
    if let Some(bad) = text.chars().find(|c| is_unsafe(*c)) {
        let message =
            format!("{what}: \"{text}\" has a control character (U+{:04X})", u32::from(bad));
        return Err(
            CommandError::usage(kind, &message).hint("use letters, digits, spaces and punctuation")
        );
    }
    Ok(())
}

/// `HOST:PORT`, the host a name, an IPv4 address or an IPv6 address in brackets.
pub(crate) fn peer(what: &str, peer: &str) -> Result<(), CommandError> {
    let malformed = |why: &str| {
        Err(CommandError::usage("address", &format!("{what}: \"{peer}\" is not HOST:PORT: {why}"))
            .hint("write for example laptop.local:9000, 192.168.1.7:9000 or [fe80::1]:9000"))
    };
    let Some((host, port)) = peer.rsplit_once(':') else {
        return malformed("the port is missing");
    };
    if let Some(inner) = host.strip_prefix('[') {
        let Some(address) = inner.strip_suffix(']') else {
            return malformed("a bracket is not closed, or the port is missing");
        };
        // A zone (`%eth0`) says which line a link-local address is meant on.
        let (address, zone) = address.split_once('%').unwrap_or((address, "0"));
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return malformed("what is in brackets is not an IPv6 address");
        }
        if zone.is_empty() || !zone.chars().all(is_host_char) {
            return malformed("the zone after % is not an interface");
        }
    } else if host.contains(':') {
        return malformed("an IPv6 address needs brackets");
    } else if host.is_empty() {
        return malformed("the host is missing");
    } else if host.len() > MAX_HOST || !host.chars().all(is_host_char) {
        return malformed("the host has characters that no host name has");
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        _ => malformed("the port is not a number from 1 to 65535"),
    }
}

/// `HOST` or `HOST:PORT`; an IPv6 address needs brackets only before a port.
pub(crate) fn host(what: &str, host: &str) -> Result<(), CommandError> {
    let bare = host.split_once('%').map_or(host, |(address, _)| address);
    let with_port = if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]:1")
    } else if host.ends_with(']') || !host.contains(':') {
        format!("{host}:1")
    } else {
        host.to_owned()
    };
    peer(what, &with_port).map_err(|_| {
        CommandError::usage("address", &format!("{what}: \"{host}\" is not an address"))
            .hint("write for example laptop.local, 192.168.1.7:9000 or [fe80::1]:9000")
    })
}

fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '.' | '-' | '_')
        || (!c.is_ascii() && c.is_alphanumeric())
}

/// A pattern in gitignore syntax.
pub(crate) fn exclude(what: &str, pattern: &str) -> Result<(), CommandError> {
    let bad = |why: &str| {
        Err(CommandError::usage(
            "exclude",
            &format!("{what}: \"{pattern}\" is not a pattern: {why}"),
        )
        .hint("patterns are those of .gitignore, for example '*.tmp', 'build/' or '/notes/**'"))
    };
    if pattern.trim().is_empty() {
        return bad("it is empty");
    }
    if pattern.len() > MAX_PATTERN {
        return bad("it is too long");
    }
    if pattern.contains(['\n', '\r', '\0']) {
        return bad("it has a line break or a NUL in it");
    }
    match GitignoreBuilder::new("").add_line(None, pattern) {
        Ok(_) => Ok(()),
        Err(ignore::Error::Glob { err, .. }) => bad(&err),
        Err(other) => bad(&other.to_string()),
    }
}

/// How many large files are fetched at once: 1 to 64.
pub(crate) fn transfers(what: &str, count: u64) -> Result<usize, CommandError> {
    match usize::try_from(count) {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err(CommandError::usage("transfers", &format!("{what}: {count} is out of range"))
            .hint("use a number from 1 to 64; 4 is the default")),
    }
}

/// How many deletions go without a question: a number of files, or a share of them as `N%`.
pub(crate) fn max_deletes(what: &str, text: &str) -> Result<DeleteLimit, CommandError> {
    let limit = match text.strip_suffix('%') {
        Some(share) => share
            .parse()
            .ok()
            .filter(|share| *share <= 100)
            .map(|percent| DeleteLimit { percent, ..DeleteLimit::default() }),
        None => text.parse().ok().map(|files| DeleteLimit { files, percent: 0 }),
    };
    limit.ok_or_else(|| {
        CommandError::usage("max_deletes", &format!("{what}: {text:?} is no number of deletions"))
            .hint("use a number of files or a share of them, for example 1000 or 80%; 100% never asks")
    })
}

/// For how many days history is kept: 0 to 36,500, 0 for whatever the age; 30 if nothing is said.
pub(crate) fn history_days(what: &str, days: Option<u64>) -> Result<u32, CommandError> {
    let Some(days) = days else { return Ok(Limits::default().days) };
    match u32::try_from(days) {
        Ok(days @ 0..=36_500) => Ok(days),
        _ => Err(CommandError::usage("history", &format!("{what}: {days} is out of range"))
            .hint("use a number of days up to 36500, 0 to keep old versions whatever their age; 30 is the default")),
    }
}

/// The share of the disk that history may have: 1 to 100 percent; 10 if nothing is said.
pub(crate) fn history_share(what: &str, share: Option<u64>) -> Result<u8, CommandError> {
    let Some(share) = share else { return Ok(Limits::default().share) };
    match u8::try_from(share) {
        Ok(share @ 1..=100) => Ok(share),
        _ => Err(CommandError::usage("history", &format!("{what}: {share} is out of range"))
            .hint("use percent of the disk from 1 to 100; 10 is the default")),
    }
}

/// A list no longer than one run takes.
pub(crate) fn list(what: &str, len: usize) -> Result<(), CommandError> {
    if len <= MAX_LIST {
        return Ok(());
    }
    Err(CommandError::usage("list", &format!("{what}: {len} values are too many"))
        .hint(&format!("at most {MAX_LIST} are taken")))
}

/// This computer's host name, made fit to be a device name; `device` if nothing of it is left.
pub(crate) fn default_name() -> String {
    fit_name(&host_name())
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

fn fit_name(host: &str) -> String {
    // `laptop.example.org` is `laptop` to its owner; an address stays whole.
    let first = host.split('.').next().unwrap_or_default();
    let short = if first.bytes().all(|b| b.is_ascii_digit()) { host } else { first };
    let mut name: String = short.chars().filter(|c| !is_unsafe(*c)).collect();
    while name.len() > MAX_NAME {
        name.pop();
    }
    let name = name.trim();
    if name.is_empty() { "device".to_owned() } else { name.to_owned() }
}

/// Addresses of relays.
///
/// # Errors
/// Names the first that is none.
pub(crate) fn relays(what: &str, texts: &[String]) -> Result<(), CommandError> {
    let wrong = |text: &&String| text.parse::<relay::RelayAddress>().is_err();
    match texts.iter().find(wrong) {
        None => Ok(()),
        Some(text) => {
            let message = format!("{what}: \"{text}\" is no relay's address");
            Err(CommandError::usage("relay", &message).hint(
                "copy the whole address that kin relay prints there: kin:relay/HOST:PORT/kr1…",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "laptop:9000",
            "laptop.local:1",
            "192.168.1.7:65535",
            "[::1]:9000",
            "[fe80::1%eth0]:9000",
            "[fe80::1%2]:9000",
            "my_host-2:9000",
            "bücher.example:9000",
        ] {
            assert_eq!(peer("--peer", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":",
            "laptop",
            "laptop:",
            ":9000",
            "laptop:0",
            "laptop:65536",
            "laptop:+9000",
            "laptop:9 ",
            "::1:9000",
            "[::1]",
            "[::1:9000",
            "[::1]9000",
            "[]:9000",
            "[laptop]:9000",
            "[::1%]:9000",
            "[::1%a b]:9000",
            "a b:9000",
            "a\n:9000",
            "\x1b[2J:9000",
            "http://laptop:9000",
            "user@laptop:9000",
            "laptop:９０００",
        ] {
            let error = peer("--peer", bad).expect_err(bad);
            assert!(error.message.starts_with("--peer: "), "{}", error.message);
            assert_eq!((error.hints.len(), error.exit.code()), (1, 2));
        }
        assert!(peer("--peer", &format!("{}:9000", "x".repeat(256))).is_err());
    }

    #[test]
    fn hosts_with_and_without_a_port() {
        for good in ["laptop", "laptop:9000", "10.0.0.7", "::1", "fe80::1%eth0", "[::1]", "[::1]:9"]
        {
            assert_eq!(host("HOST", good), Ok(()), "{good}");
        }
        for bad in ["", ":9", "a b", "laptop:0", "[::1", "::1]:9", "x\u{1b}", "fe80::1%a b", "a/b"]
        {
            let error = host("HOST", bad).expect_err(bad);
            assert!(error.message.starts_with("HOST: "), "{}", error.message);
            assert_eq!((error.hints.len(), error.exit.code()), (1, 2));
        }
    }

    #[test]
    fn names_and_topics() {
        for good in ["laptop", "Ann's laptop", "日本語", &"x".repeat(64)] {
            assert_eq!(name("--name", good), Ok(()));
            assert_eq!(topic("--topic", good), Ok(()));
        }
        for bad in ["a\nb", "\x1b[31m", "x\u{202e}y", "\0", &"x".repeat(65), &"ä".repeat(33)] {
            assert!(name("--name", bad).is_err(), "{bad:?}");
            assert!(topic("--topic", bad).is_err(), "{bad:?}");
        }
        assert!(name("--name", "").is_err() && name("--name", "  ").is_err());
        assert_eq!(topic("--topic", ""), Ok(()));
    }

    #[test]
    fn folders_have_names_that_directories_can_have() {
        for good in ["Documents", "my photos", "日本語", "a.b"] {
            assert_eq!(folder_name("--name", good), Ok(()));
        }
        for bad in ["", " ", "a/b", "/etc", "..", ".ssh", "-rf", "a\nb", "x\u{202e}y"] {
            assert!(folder_name("--name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns() {
        for good in ["*.tmp", "build/", "/notes/**", "!keep", "a{b,c}", "#x"] {
            assert_eq!(exclude("--exclude", good), Ok(()), "{good}");
        }
        for bad in ["", "  ", "[z-a]", "a{b", "x\ny", &"x".repeat(5000)] {
            assert!(exclude("--exclude", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(transfers("x", 1), Ok(1));
        assert_eq!(transfers("x", 64), Ok(64));
        for bad in [0, 65, u64::MAX] {
            assert!(transfers("x", bad).is_err());
        }
        assert!(list("x", 1024).is_ok() && list("x", 1025).is_err());
    }

    #[test]
    fn host_names_become_device_names() {
        assert_eq!(fit_name("laptop.example.org"), "laptop");
        assert_eq!(fit_name("10.0.0.7"), "10.0.0.7");
        assert_eq!(fit_name("a\x1b\u{202e}b"), "ab");
        assert_eq!(fit_name(""), "device");
        assert_eq!(fit_name("\n"), "device");
    }

    proptest! {
        #[test]
        fn a_default_name_is_always_a_good_name(host in any::<String>()) {
            prop_assert_eq!(name("name", &fit_name(&host)), Ok(()));
        }

        #[test]
        fn no_address_panics(text in any::<String>()) {
            let _ = peer("--peer", &text);
        }
    }
}

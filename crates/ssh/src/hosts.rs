//! Where one may go: a `Host` block in a file of ours, which ssh's configuration includes.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{Alias, PublicKey, SshError, Tag, UserName, text::comment};

/// A device that can be reached by `ssh ALIAS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The name that is typed.
    pub alias: Alias,
    /// Which device.
    pub tag: Tag,
    /// What it calls itself: for people who read the file.
    pub name: String,
    /// Where it is.
    pub host_name: HostName,
    /// Where its sshd listens.
    pub port: u16,
    /// Its user.
    pub user: UserName,
    /// Its host keys: ssh takes no others. Without any, ssh asks a person about the one that it sees.
    pub host_keys: Vec<PublicKey>,
    /// The private key that opens it.
    pub identity: PathBuf,
}

/// An address, or a name that a resolver knows, as ssh's configuration can hold it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostName(String);

impl HostName {
    /// Takes an address (an IPv6 one perhaps with `%interface`) or a name. `None` if ssh could take it for
    /// anything else.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (plain, zone) = text.split_once('%').unwrap_or((text, "0"));
        let addr = plain.parse::<IpAddr>();
        let is_addr = match addr {
            Ok(IpAddr::V6(_)) => is_name(zone),
            Ok(IpAddr::V4(_)) => text == plain,
            Err(_) => false,
        };
        (is_addr || is_name(text)).then(|| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<IpAddr> for HostName {
    fn from(addr: IpAddr) -> Self {
        Self(addr.to_canonical().to_string())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=253).contains(&text.len()) && !text.starts_with(['-', '.']) && text.chars().all(fits)
}

/// The first lines of the file.
pub(crate) const HEADER: &str = "\
# Made by kin: devices that `ssh NAME` reaches. `kin ssh hosts` lists them, `kin ssh unpair NAME` takes one away.
# What is changed here is lost when kin writes it again; put settings of yours for NAME into ~/.ssh/config.
";

/// A path as a word of ssh's configuration.
///
/// # Errors
/// If ssh could not take it.
pub(crate) fn quoted(path: &Path) -> Result<String, SshError> {
    let odd = || SshError::OddPath(path.to_owned());
    let text = path.to_str().ok_or_else(odd)?;
    if !path.is_absolute()
        || text.contains(['"', '\\', '*', '?', '[', ']', '~', '$'])
        || text.chars().any(char::is_control)
    {
        return Err(odd());
    }
    Ok(format!("\"{text}\""))
}

/// As [`quoted`], where ssh expands `%`.
fn expanded(path: &Path) -> Result<String, SshError> {
    Ok(quoted(path)?.replace('%', "%%"))
}

/// A block as it is in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) tag: Tag,
    pub(crate) name: String,
    pub(crate) alias: Alias,
    pub(crate) host_name: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) identity: PathBuf,
    /// Its host keys are known, so that ssh takes no others.
    pub(crate) pinned: bool,
}

impl Block {
    pub(crate) fn new(host: &Host) -> Self {
        Self {
            tag: host.tag.clone(),
            name: comment(&host.name),
            alias: host.alias.clone(),
            host_name: host.host_name.to_string(),
            port: host.port,
            user: host.user.to_string(),
            identity: host.identity.clone(),
            pinned: !host.host_keys.is_empty(),
        }
    }

    fn text(&self, known_hosts: &Path) -> Result<String, SshError> {
        let Self { tag, name, alias, port, user, .. } = self;
        let host_name = self.host_name.replace('%', "%%");
        let strict = if self.pinned { "yes" } else { "ask" };
        let (identity, known_hosts) = (expanded(&self.identity)?, expanded(known_hosts)?);
        Ok(format!(
            "
# {tag} {name}
Host {alias}
    HostName {host_name}
    Port {port}
    User {user}
    HostKeyAlias {alias}
    UserKnownHostsFile {known_hosts}
    StrictHostKeyChecking {strict}
    UpdateHostKeys no
    IdentityFile {identity}
    IdentitiesOnly yes
"
        ))
    }
}

/// The file of these blocks, in the order of their aliases; nothing without any.
pub(crate) fn write(mut blocks: Vec<Block>, known_hosts: &Path) -> Result<String, SshError> {
    if blocks.is_empty() {
        return Ok(String::new());
    }
    blocks.sort_by(|a, b| a.alias.cmp(&b.alias));
    let mut text = HEADER.to_owned();
    for block in blocks {
        text.push_str(&block.text(known_hosts)?);
    }
    Ok(text)
}

/// The blocks of the file. What a person put there that is no block of ours is left out.
pub(crate) fn read(bytes: &[u8]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut tag: Option<(Tag, String)> = None;
    for line in String::from_utf8_lossy(bytes).lines() {
        let line = line.trim();
        if let Some(remark) = line.strip_prefix("# ") {
            let (word, name) = remark.split_once(' ').unwrap_or((remark, ""));
            if let Some(found) = Tag::of_word(word.as_bytes()) {
                tag = Some((found, name.to_owned()));
            }
            continue;
        }
        let Some((key, value)) = line.split_once(' ') else { continue };
        let value = value.trim();
        if key.eq_ignore_ascii_case("host") {
            let block = tag.take().zip(Alias::new(value).ok()).map(|((tag, name), alias)| Block {
                tag,
                name,
                alias,
                host_name: String::new(),
                port: 22,
                user: String::new(),
                identity: PathBuf::new(),
                pinned: true,
            });
            blocks.extend(block);
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        match key {
            "HostName" => block.host_name = value.replace("%%", "%"),
            "Port" => block.port = value.parse().unwrap_or(block.port),
            "StrictHostKeyChecking" => block.pinned = value != "ask",
            "User" => block.user = value.to_owned(),
            "IdentityFile" => block.identity = value.trim_matches('"').replace("%%", "%").into(),
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_20_host_names_that_ssh_would_take_for_something_else_are_refused() {
        for good in ["10.0.0.2", "fe80::1%eth0", "::1", "nas", "nas.local", "a_b.example"] {
            assert!(HostName::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "a b",
            "a\nProxyCommand x",
            "%h",
            "a%b",
            "*",
            "\"a\"",
            "fe80::1%a b",
            "10.0.0.2%eth0",
            ".a",
            "a/b",
            "a;b",
        ] {
            assert!(HostName::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn blocks_are_read_back() {
        let block = Block {
            tag: Tag::new("kd1abc").expect("is one"),
            name: "desk".into(),
            alias: Alias::new("desk").expect("is one"),
            host_name: "fe80::1%eth0".into(),
            port: 2222,
            user: "alice".into(),
            identity: "/home/a b/.ssh/100%".into(),
            pinned: true,
        };
        let text =
            write(vec![block.clone()], Path::new("/home/a b/.ssh/known_hosts")).expect("fits");
        assert_eq!(read(text.as_bytes()), std::slice::from_ref(&block));
        assert!(text.contains("HostName fe80::1%%eth0\n") && text.contains("/100%%\"\n"));
        let unpinned = Block { pinned: false, ..block.clone() };
        let text = write(vec![unpinned.clone()], Path::new("/k")).expect("fits");
        assert!(text.contains("StrictHostKeyChecking ask\n"), "nothing is known of its host key");
        assert_eq!(read(text.as_bytes()), [unpinned]);
        for odd in ["/home/a\"b", "relative", "/a\nb", "/a*"] {
            let odd = Block { identity: odd.into(), ..block.clone() };
            assert!(matches!(write(vec![odd], Path::new("/k")), Err(SshError::OddPath(_))));
        }
    }
}

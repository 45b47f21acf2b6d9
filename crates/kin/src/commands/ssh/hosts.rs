//! `kin ssh hosts`: what is installed, read from the files themselves.

use serde::Serialize;
use ssh::{Allowed, Installed, PublicKey};

use crate::{
    answers,
    error::CommandError,
    escape::escape,
    output::{screen::Screen, table::table},
    ssh_files, when,
};

/// A device, as `kin ssh hosts --json` prints it.
#[derive(Serialize, Debug)]
pub(super) struct HostLine {
    device: String,
    name: String,
    /// What to type behind `ssh`.
    alias: Option<String>,
    user: Option<String>,
    addr: Option<String>,
    port: Option<u16>,
    /// The private key that opens it.
    key: Option<String>,
    /// Fingerprints of the host keys that are pinned.
    host_keys: Vec<String>,
    /// True if it may come in.
    allowed: bool,
    /// Until when, in seconds since 1970.
    expires: Option<i64>,
    /// From which networks.
    from: Option<String>,
}

impl HostLine {
    pub(super) fn new(one: &Installed) -> Self {
        let host = one.host.as_ref();
        let access = one.access.first();
        Self {
            device: one.tag.as_str().to_owned(),
            name: one.name.clone(),
            alias: host.map(|host| host.alias.to_string()),
            user: host.map(|host| host.user.clone()),
            addr: host.map(|host| host.host_name.clone()),
            port: host.map(|host| host.port),
            key: host.map(|host| host.identity.display().to_string()),
            host_keys: host
                .map(|host| {
                    host.host_keys.iter().map(PublicKey::fingerprint).map(str::to_owned).collect()
                })
                .unwrap_or_default(),
            allowed: access.is_some_and(|access| !ended(access)),
            expires: access.and_then(|access| access.expires),
            from: access.and_then(|access| access.from.clone()),
        }
    }
}

fn ended(access: &Allowed) -> bool {
    let now = i64::try_from(when::now() / 1000).unwrap_or(i64::MAX);
    access.expires.is_some_and(|end| end <= now)
}

/// Lists devices.
pub(super) fn run(screen: &Screen, json: bool) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    let installed = here.home.installed()?;
    let lines: Vec<HostLine> = installed.iter().map(HostLine::new).collect();
    if json {
        return answers::json(&lines);
    }
    if lines.is_empty() {
        screen.line("Nothing is installed. kin ssh pair, or kin ssh allow for a device of your group, installs something.");
    }
    answers::lines(&rows(&lines))
}

fn rows(lines: &[HostLine]) -> Vec<String> {
    let row = |line: &HostLine| {
        let to = match (&line.alias, &line.user, &line.addr) {
            (Some(alias), Some(user), Some(addr)) => {
                let port = line.port.filter(|port| *port != 22).map(|port| format!(" port {port}"));
                format!(
                    "ssh {alias}: {}@{}{}",
                    escape(user),
                    escape(addr),
                    port.unwrap_or_default()
                )
            }
            _ => "not reached from here".to_owned(),
        };
        let limits = [
            line.expires
                .filter(|_| line.allowed)
                .map(|end| format!("until {}", when::show_seconds(end))),
            line.from.as_ref().map(|from| format!("from {}", escape(from))),
        ];
        let limits =
            limits.into_iter().flatten().map(|limit| format!(", {limit}")).collect::<String>();
        let access = match (line.allowed, line.expires) {
            (true, _) => format!("may come in{limits}"),
            (false, Some(end)) => {
                format!("could come in until {}: expired", when::show_seconds(end))
            }
            (false, None) => "may not come in".to_owned(),
        };
        vec![escape(&line.name), to, access]
    };
    table(&lines.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_told_for_each_direction() {
        let both = HostLine {
            device: "kd1x".into(),
            name: "desk".into(),
            alias: Some("desk".into()),
            user: Some("al\x1bice".into()),
            addr: Some("10.0.0.2".into()),
            port: Some(2222),
            key: None,
            host_keys: Vec::new(),
            allowed: true,
            expires: None,
            from: Some("10.0.0.0/8".into()),
        };
        let none = HostLine {
            name: "tv".into(),
            alias: None,
            port: None,
            allowed: false,
            from: None,
            ..both
        };
        let both = HostLine {
            name: "desk".into(),
            alias: Some("desk".into()),
            port: Some(2222),
            allowed: true,
            from: Some("10.0.0.0/8".into()),
            user: none.user.clone(),
            addr: none.addr.clone(),
            device: "kd1y".into(),
            key: None,
            host_keys: Vec::new(),
            expires: None,
        };
        assert_eq!(
            rows(&[both, none]),
            [
                "desk  ssh desk: al\\u{1b}ice@10.0.0.2 port 2222  may come in, from 10.0.0.0/8",
                "tv    not reached from here                     may not come in",
            ]
        );
    }
}

//! Putting into the user's files what both sides have agreed to. Files are blocking; each call has a thread.

use std::{net::SocketAddr, sync::Arc};

use identity::DeviceId;
use wire::{
    Hash,
    ssh::{MAX_HOST_KEY, MAX_HOST_KEYS, Reach},
};

use super::desk::Desk;
use crate::{Access, Alias, Host, HostName, PublicKey, SshError, Tag, UserName, connecto::Claim};

/// The domain of the tags of those that have no device id.
const CONNECTO_CONTEXT: &str = "kinfold 2026-11 connecto tag";

/// Why something could not be installed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    /// A stable word for programs.
    pub(super) kind: &'static str,
    /// What happened (unescaped).
    pub(super) message: String,
    /// What to do.
    pub(super) hint: String,
}

impl From<SshError> for Problem {
    fn from(error: SshError) -> Self {
        Self { kind: error.kind(), message: error.to_string(), hint: error.hint().to_owned() }
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        let hint =
            "what was installed on the way, kin ssh hosts lists and kin ssh unpair takes away";
        Self { kind: "not_installed", message, hint: hint.to_owned() }
    }
}

/// Runs on a thread that may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SshError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Problem::from),
        Err(_) => Err("the program failed".to_owned().into()),
    }
}

/// Lets the other side in.
pub(super) async fn allow(
    desk: &Arc<Desk>,
    tag: Tag,
    name: &str,
    key: PublicKey,
) -> Result<(), Problem> {
    let home = Arc::clone(&desk.setup.home);
    let access = Access {
        key,
        tag,
        name: name.to_owned(),
        expires: desk.setup.expires,
        from: desk.setup.from.clone(),
    };
    blocking(move || home.allow(&access).map(|_| ())).await
}

/// The name by which this device will reach the other.
pub(super) async fn propose(desk: &Arc<Desk>, tag: Tag, name: &str) -> Result<Alias, Problem> {
    let (home, name) = (Arc::clone(&desk.setup.home), name.to_owned());
    blocking(move || home.propose(&tag, &name)).await
}

/// How the other side is reached.
pub(super) struct There {
    pub(super) tag: Tag,
    pub(super) name: String,
    pub(super) alias: Alias,
    pub(super) addr: SocketAddr,
    pub(super) port: u16,
    pub(super) user: UserName,
    pub(super) host_keys: Vec<PublicKey>,
}

impl There {
    /// From what a proven device says.
    pub(super) fn read(
        peer: &DeviceId,
        name: &str,
        alias: Alias,
        addr: SocketAddr,
        reach: &Reach,
    ) -> Result<Self, Problem> {
        let user = UserName::new(&reach.user).map_err(|error| format!("its user: {error}"))?;
        let mut host_keys = Vec::new();
        for key in &reach.host_keys {
            let key =
                PublicKey::parse(key).map_err(|error| format!("a host key of it: {error}"))?;
            if !host_keys.contains(&key) {
                host_keys.push(key);
            }
        }
        if host_keys.is_empty() {
            return Err(Problem {
                kind: "no_sshd",
                message: "it has no SSH server: there are no host keys".to_owned(),
                hint: "install an SSH server on the other device (openssh-server), and pair again"
                    .to_owned(),
            });
        }
        let (tag, name) = (Tag::device(peer), name.to_owned());
        Ok(Self { tag, name, alias, addr, port: reach.port, user, host_keys })
    }
}

/// Makes `ssh ALIAS` work.
pub(super) async fn reach(desk: &Arc<Desk>, there: There) -> Result<(), Problem> {
    let Some(own) = desk.setup.own.clone() else { return Err("there is no key".to_owned().into()) };
    let host_name = match there.addr {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            HostName::new(&format!("{}%{}", v6.ip(), v6.scope_id()))
        }
        addr => Some(HostName::from(addr.ip())),
    };
    let host = Host {
        alias: there.alias,
        tag: there.tag,
        name: there.name,
        host_name: host_name.ok_or_else(|| "ssh cannot be given its address".to_owned())?,
        port: there.port,
        user: there.user,
        host_keys: there.host_keys,
        identity: own.path,
    };
    let home = Arc::clone(&desk.setup.home);
    blocking(move || home.reach(&host).map(|_| ())).await
}

/// How this device is reached.
pub(super) fn here(desk: &Desk) -> Reach {
    let keys = desk.setup.sshd.host_keys.iter().map(ToString::to_string);
    Reach {
        user: desk.setup.home.user().to_string(),
        port: desk.setup.sshd.port,
        host_keys: keys.filter(|key| key.len() <= MAX_HOST_KEY).take(MAX_HOST_KEYS).collect(),
    }
}

/// The tag of a peer that has no device id: by its key, or else by what it calls itself and its user.
pub(super) fn connecto_tag(claim: &Claim, addr: SocketAddr) -> Result<Tag, Problem> {
    let hash = match &claim.key {
        Some(key) => Hash::derived(CONNECTO_CONTEXT, &[b"key", key.as_str().as_bytes()]),
        None => {
            let name = connecto_name(claim, addr);
            Hash::derived(CONNECTO_CONTEXT, &[b"name", name.as_bytes()])
        }
    };
    let hex = hash.to_hex();
    Tag::new(&format!("connecto-{}", hex.get(..32).unwrap_or(&hex)))
        .map_err(|error| error.to_string().into())
}

/// What a peer of Connecto's is called here.
pub(super) fn connecto_name(claim: &Claim, addr: SocketAddr) -> String {
    match &claim.name {
        Some(name) => name.as_str().to_owned(),
        None => addr.ip().to_string(),
    }
}

//! Putting into the user's files what both sides have agreed to. Files are blocking; each call has a thread.

use std::{net::SocketAddr, sync::Arc};

use identity::DeviceId;
use wire::{
    Hash,
    ssh::{MAX_HOST_KEY, MAX_HOST_KEYS, Reach},
};

use super::desk::Desk;
use crate::{
    Access, Alias, Host, HostName, PublicKey, Reached, SshError, Tag, UserName, connecto::Claim,
};

/// The domain of the tags of those that have no device id.
const CONNECTO_CONTEXT: &str = "kinfold 2026-11 connecto tag";

/// What these tags begin with.
const CONNECTO: &str = "connecto-";

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

/// The tag of a peer that has no device id. What it calls itself plays no part: anybody could take the place of another
/// by that. One that is reached is known by where it is and by the host keys that answer there (so that other host
/// keys at a place that is known are a hard stop), one that only comes in by its key.
pub(super) async fn connecto_tag(
    desk: &Arc<Desk>,
    claim: &Claim,
    addr: SocketAddr,
    host_keys: &[PublicKey],
) -> Result<Tag, Problem> {
    if let (Some(key), false) = (&claim.key, desk.setup.purpose.logs_in()) {
        return tag_of(&[b"key", key.as_str().as_bytes()]);
    }
    let home = Arc::clone(&desk.setup.home);
    let known = blocking(move || {
        let known = home.installed()?.into_iter();
        let known = known.filter(|one| one.tag.as_str().starts_with(CONNECTO));
        Ok(known.filter_map(|one| Some((one.tag, one.host?))).collect::<Vec<_>>())
    });
    place_tag(&known.await?, addr, host_keys)
}

/// The tag of whoever is at a place, in the light of those that have one.
fn place_tag(
    known: &[(Tag, Reached)],
    addr: SocketAddr,
    host_keys: &[PublicKey],
) -> Result<Tag, Problem> {
    let place = addr.ip().to_canonical().to_string();
    let same_place = known.iter().find(|(_, host)| host.host_name == place);
    let same_keys =
        |(_, host): &&(Tag, Reached)| host.host_keys.iter().any(|key| host_keys.contains(key));
    if let Some((tag, _)) = same_place.or_else(|| known.iter().find(same_keys)) {
        return Ok(tag.clone());
    }
    let mut keys: Vec<&str> = host_keys.iter().map(PublicKey::as_str).collect();
    keys.sort_unstable();
    tag_of(&[b"place", place.as_bytes(), b"\n", keys.join("\n").as_bytes()])
}

fn tag_of(parts: &[&[u8]]) -> Result<Tag, Problem> {
    let hex = Hash::derived(CONNECTO_CONTEXT, parts).to_hex();
    Tag::new(&format!("{CONNECTO}{}", hex.get(..32).unwrap_or(&hex)))
        .map_err(|error| error.to_string().into())
}

/// What a peer of Connecto's is called here.
pub(super) fn connecto_name(claim: &Claim, addr: SocketAddr) -> String {
    match &claim.name {
        Some(name) => name.as_str().to_owned(),
        None => addr.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 2] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz",
    ];

    #[test]
    fn t24_a_connecto_is_known_by_its_place_and_host_keys_and_not_by_its_name() {
        let keys = KEYS.map(|key| PublicKey::parse(key).expect("is one"));
        let [first, second] = &keys;
        let at = |text: &str| text.parse::<SocketAddr>().expect("is one");
        let tag = |known: &[(Tag, Reached)], addr: &str, keys: &[PublicKey]| {
            place_tag(known, at(addr), keys).expect("can be had")
        };
        let none: &[(Tag, Reached)] = &[];
        let desk = tag(none, "10.0.0.2:8099", &[]);
        assert_eq!(desk, tag(none, "[::ffff:10.0.0.2]:1", &[]));
        // Two machines without host keys are two, whatever they say.
        assert_ne!(desk, tag(none, "10.0.0.3:8099", &[]));
        assert_ne!(desk, tag(none, "10.0.0.2:8099", &keys));
        let reached = |addr: &str, host_keys: &[PublicKey]| Reached {
            alias: Alias::new("desk").expect("is one"),
            host_name: addr.to_owned(),
            port: 22,
            user: "alice".to_owned(),
            identity: "/k".into(),
            host_keys: host_keys.to_vec(),
        };
        let known = [(desk.clone(), reached("10.0.0.2", std::slice::from_ref(first)))];
        // Other host keys at that place are a hard stop (attack 19), so they are those of the same entry.
        assert_eq!(desk, tag(&known, "10.0.0.2:8099", std::slice::from_ref(second)));
        // It has moved.
        assert_eq!(desk, tag(&known, "10.0.0.9:8099", std::slice::from_ref(first)));
        assert_ne!(desk, tag(&known, "10.0.0.9:8099", std::slice::from_ref(second)));
    }
}

//! SSH between devices of one group: what both people agreed to is installed on both sides once the devices are
//! linked, and taken away when one of them does not belong any more (rule T23). docs/protocol.md, section 19.
//!
//! A device whose person decided about SSH with the other end says by which key it would log in there, or that it
//! does not want to. The other end installs the key, if its own person agreed, and then says where its server is.
//! So whoever is told that it may come in finds the door open. Membership by itself installs nothing.

mod asked;
mod files;
mod gone;

use std::time::{Duration, Instant};

use identity::DeviceId;
use ssh::{Access, Alias, Host, HostName, PublicKey, SshError, Tag, UserName};
use tokio::{sync::oneshot, time::timeout};
use wire::device::{MAX_HOST_KEYS, Message as Say, SshServer};

use super::{
    hub::{Hub, HubHandle, wall},
    store::ssh::Consent,
};
use crate::{api::ApiEvent, line::ConnId};

pub(super) use asked::is_about_ssh;
pub(super) use files::Files;
pub use files::SshHome;

/// How long two devices that were just paired may take to install what was agreed on.
const SETTLE: Duration = Duration::from_secs(15);

/// How far both ends of a link are with SSH.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// How often this end said by which key it would log in, or that it does not want to.
    turn: u32,
    /// By which key it would log in, and in which turn that was said.
    said_key: Option<(u32, PublicKey)>,
    /// What the other end said of that, and the how manieth time it was.
    heard_key: Option<(u32, Option<PublicKey>)>,
    /// This end has answered it.
    answered: bool,
    /// The last turn that the other end has answered, and what follows from that is done.
    heard_open: u32,
}

impl Talk {
    fn is_settled(&self) -> bool {
        let heard = self.heard_open == self.turn && self.heard_key.is_some();
        self.turn > 0 && heard && self.answered
    }
}

/// Who waits until SSH with a device is settled, and what has been installed for it until then.
pub(super) struct Waiting {
    device: DeviceId,
    done: oneshot::Sender<Vec<ApiEvent>>,
    installed: Vec<ApiEvent>,
}

/// The setting that holds the line by which a device was let in last, as it was written.
fn written_key(device: &DeviceId) -> String {
    format!("ssh line {device}")
}

/// A leave to log in whose end has come is none.
fn may_come_in(consent: &Consent) -> bool {
    consent.into_here && consent.terms.expires.is_none_or(|end| end > wall())
}

impl Hub {
    fn consent(&self, device: &DeviceId) -> Option<Consent> {
        self.store.ssh_consent(device).unwrap_or_else(|error| {
            self.complain("state", &error.to_string(), "");
            None
        })
    }

    fn ssh_failed(&self, name: &str, error: &SshError) {
        self.complain(error.kind(), &format!("SSH with {name}: {error}"), error.hint());
    }

    /// The link to a device that belongs to a group of ours.
    fn ssh_conn(&self, device: &DeviceId) -> Option<ConnId> {
        let linked = self.conns.iter();
        let mut linked = linked.filter(|(_, conn)| conn.line.peer == *device && conn.is_accepted());
        linked.next().map(|(id, _)| *id)
    }

    /// Both ends hold each other, or a person has just decided: what is agreed on is begun, or begun anew.
    pub(super) fn begin_ssh(&mut self, device: &DeviceId) {
        let (device, Some(id)) = (*device, self.ssh_conn(device)) else { return };
        self.welcome_ssh(&device);
        let (Some(files), Some(consent)) = (&self.files, self.consent(&device)) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        // What was answered before was on other terms, perhaps.
        conn.ssh.answered = false;
        conn.ssh.turn += 1;
        let turn = conn.ssh.turn;
        if !consent.from_here {
            conn.say(Say::SshKey { turn, key: None });
        }
        if consent.from_here {
            let hub = self.handle.clone();
            files.run(move |here| {
                let key = here.and_then(|here| here.key_for(&Tag::device(&device)));
                hub.send(move |hub| {
                    let key = match key {
                        Ok(key) => Some(key.public),
                        Err(error) => {
                            hub.ssh_failed(&hub.name_of(&device), &error);
                            None
                        }
                    };
                    let conn = hub.conns.get_mut(&id).filter(|conn| conn.is_accepted());
                    let Some(conn) = conn.filter(|conn| conn.ssh.turn == turn) else { return };
                    conn.say(Say::SshKey { turn, key: key.as_ref().map(ToString::to_string) });
                    conn.ssh.said_key = key.map(|key| (turn, key));
                });
            });
        }
        self.answer_ssh(id);
    }

    pub(super) fn heard_ssh_key(&mut self, id: ConnId, turn: u32, key: Option<&str>) {
        let key = match key.map(PublicKey::parse).transpose() {
            Ok(key) => key,
            Err(error) => return self.cut(id, &format!("it sent a bad SSH key: {error}")),
        };
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_accepted()) else { return };
        (conn.ssh.heard_key, conn.ssh.answered) = (Some((turn, key)), false);
        self.answer_ssh(id);
    }

    /// Lets the other end in, if its person wants to and this one's agreed, and says so.
    fn answer_ssh(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.is_accepted()) else { return };
        let Some((turn, heard)) = conn.ssh.heard_key.clone() else { return };
        let device = conn.line.peer;
        let (Some(files), Some(consent)) = (&self.files, self.consent(&device)) else { return };
        let key = heard.filter(|_| may_come_in(&consent));
        let Some(key) = key else { return self.say_open(id, turn, None) };
        let name = self.name_of(&device);
        let access = Access {
            key,
            tag: Tag::device(&device),
            name: name.clone(),
            expires: consent.terms.expires,
            from: consent.terms.from.iter().filter_map(|net| net.parse().ok()).collect(),
        };
        let from = match self.ssh_addr(id) {
            Some(addr) => addr.ip().to_canonical().to_string(),
            None => String::new(),
        };
        let hub = self.handle.clone();
        let key_of_line = written_key(&device);
        let line = access.line();
        let written = self.store.setting(&key_of_line).ok().flatten();
        // The same was written before. If the line is another one by now, a person has seen to it since.
        let again = written.is_some_and(|written| written == line.as_bytes());
        files.run(move |here| {
            let installed = here.and_then(|here| {
                let sshd = here.sshd();
                let mut host_keys = sshd.host_keys;
                host_keys.truncate(MAX_HOST_KEYS);
                let is_there = || -> Result<bool, SshError> {
                    let installed = here.home.installed()?;
                    let of_it = installed.into_iter().filter(|one| one.tag == access.tag);
                    let mut keys = of_it.flat_map(|one| one.access).filter_map(|one| one.key);
                    Ok(keys.any(|key| key == access.key))
                };
                if !(again && is_there()?) {
                    here.home.allow(&access)?;
                }
                Ok((here.home.user().to_string(), sshd.port, host_keys))
            });
            hub.send(move |hub| match installed {
                Ok((user, port, host_keys)) => {
                    if let Err(error) = hub.store.set(&key_of_line, line.as_bytes()) {
                        hub.complain("state", &error.to_string(), "");
                    }
                    if host_keys.is_empty() {
                        let message = format!("{name} may log in here, but there is no SSH server");
                        let hint = "install OpenSSH's server (openssh-server), and start it";
                        hub.complain("no_sshd", &message, hint);
                        return hub.say_open(id, turn, None);
                    }
                    hub.ssh_installed(ApiEvent::Installed {
                        device: device.to_string(),
                        name,
                        user: user.clone(),
                        addr: from,
                        port,
                        key: access.key.fingerprint().to_owned(),
                        direction: "from_peer".to_owned(),
                    });
                    let host_keys = host_keys.iter().map(ToString::to_string).collect();
                    hub.say_open(id, turn, Some(SshServer { user, port, host_keys }));
                }
                Err(error) => {
                    hub.ssh_failed(&name, &error);
                    hub.say_open(id, turn, None);
                }
            });
        });
    }

    fn say_open(&mut self, id: ConnId, turn: u32, server: Option<SshServer>) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_accepted()) else { return };
        // It may have said another key meanwhile.
        conn.ssh.answered = conn.ssh.heard_key.as_ref().is_some_and(|(last, _)| *last == turn);
        conn.say(Say::SshOpen { turn, server });
        let device = conn.line.peer;
        self.ssh_settled(&device);
    }

    /// The other end says where its server is, or that this device may not come in.
    pub(super) fn heard_ssh_open(&mut self, id: ConnId, turn: u32, server: Option<SshServer>) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.is_accepted()) else { return };
        if server.is_some() && conn.ssh.turn != turn {
            // What is said of the present turn follows.
            return;
        }
        let device = conn.line.peer;
        let said = conn.ssh.said_key.clone().filter(|(of, _)| *of == turn).map(|(_, key)| key);
        let Some(addr) = self.ssh_addr(id) else {
            // By a relay alone nobody knows where its server is: with a direct link it is installed.
            return self.ssh_opened(id, turn);
        };
        let wanted = self.consent(&device).is_some_and(|consent| consent.from_here);
        let name = self.name_of(&device);
        let (Some(files), Some(server), true) = (&self.files, server, wanted) else {
            return self.ssh_opened(id, turn);
        };
        let parsed = parse_server(&server);
        let Some((user, host_keys)) = parsed else {
            return self.cut(id, "it says of its SSH server what cannot be");
        };
        let host_name = host_name(addr);
        let hub = self.handle.clone();
        files.run(move |here| {
            let reached = here.and_then(|here| {
                let tag = Tag::device(&device);
                let identity = here.key_for(&tag)?;
                if said.as_ref() != Some(&identity.public) {
                    // It is another one by now (kin ssh rotate): that one is not let in there yet.
                    return Ok(None);
                }
                let alias: Alias = here.home.propose(&tag, &name)?;
                let fingerprint = identity.public.fingerprint().to_owned();
                let port = server.port;
                let identity = identity.path;
                let host = Host { alias, tag, name, host_name, port, user, host_keys, identity };
                here.home.reach(&host)?;
                Ok(Some((host, fingerprint)))
            });
            hub.send(move |hub| {
                match reached {
                    Ok(None) => return hub.begin_ssh(&device),
                    Ok(Some((host, key))) => hub.ssh_installed(ApiEvent::Installed {
                        device: device.to_string(),
                        name: host.alias.to_string(),
                        user: host.user.to_string(),
                        addr: host.host_name.to_string(),
                        port: host.port,
                        key,
                        direction: "to_peer".to_owned(),
                    }),
                    Err(error) => hub.ssh_failed(&hub.name_of(&device), &error),
                }
                hub.ssh_opened(id, turn);
            });
        });
    }

    /// Where the other end of a link is: of one that a relay carries, where the device was last.
    fn ssh_addr(&self, id: ConnId) -> Option<std::net::SocketAddr> {
        let line = &self.conns.get(&id)?.line;
        match line.is_carried() {
            false => Some(line.addr),
            true => self.places.get(&line.peer)?.addresses.first().copied(),
        }
    }

    fn ssh_opened(&mut self, id: ConnId, turn: u32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.ssh.heard_open = turn;
        let device = conn.line.peer;
        self.ssh_settled(&device);
    }

    // Who waits

    fn ssh_installed(&mut self, event: ApiEvent) {
        if let ApiEvent::Installed { device, .. } = &event {
            for waiting in &mut self.ssh_waiting {
                if waiting.device.to_string() == *device {
                    waiting.installed.push(event.clone());
                }
            }
        }
        self.tell(event);
    }

    /// Whoever waits for a device hears that everything is done, if it is, or that its link is gone.
    pub(super) fn ssh_settled(&mut self, device: &DeviceId) {
        match self.ssh_conn(device).and_then(|id| self.conns.get(&id)) {
            Some(conn) if conn.ssh.is_settled() => self.tell_settled(device),
            Some(_) => {}
            None => {
                // What came before the link's end is being done still.
                let (device, hub) = (*device, self.handle.clone());
                if let Some(files) = &self.files {
                    files.run(move |_| hub.send(move |hub| hub.tell_settled(&device)));
                }
            }
        }
    }

    fn tell_settled(&mut self, device: &DeviceId) {
        let waiting = std::mem::take(&mut self.ssh_waiting);
        for one in waiting {
            if one.device == *device {
                // Whoever waited may have gone.
                let _ = one.done.send(one.installed);
            } else {
                self.ssh_waiting.push(one);
            }
        }
    }
}

/// Waits until what was agreed on about SSH with a device is installed on both sides, or the link is gone; what has
/// been installed here.
pub(super) async fn settle(hub: &HubHandle, device: DeviceId) -> Vec<ApiEvent> {
    let (done, settled) = oneshot::channel();
    let begun = Instant::now();
    hub.send(move |hub| {
        if hub.files.is_none() {
            return;
        }
        hub.ssh_waiting.push(Waiting { device, done, installed: Vec::new() });
        hub.ssh_settled(&device);
    });
    let installed = timeout(SETTLE, settled).await;
    tracing::debug!(?device, took = ?begun.elapsed(), "waited for SSH");
    installed.ok().and_then(Result::ok).unwrap_or_default()
}

fn parse_server(server: &SshServer) -> Option<(UserName, Vec<PublicKey>)> {
    let keys = server.host_keys.iter().map(|key| PublicKey::parse(key).ok());
    Some((UserName::new(&server.user).ok()?, keys.collect::<Option<_>>()?))
}

/// Where a link leads: of an address that means something on one interface only, with that interface.
fn host_name(addr: std::net::SocketAddr) -> HostName {
    let zoned = match addr {
        std::net::SocketAddr::V6(addr) if addr.scope_id() != 0 => {
            HostName::new(&format!("{}%{}", addr.ip(), addr.scope_id()))
        }
        _ => None,
    };
    zoned.unwrap_or_else(|| addr.ip().into())
}

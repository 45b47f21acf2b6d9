//! What commands ask about SSH.

use std::net::IpAddr;

use identity::DeviceId;
use serde_json::Value;
use ssh::Tag;
use tokio::sync::oneshot;
use wire::device::Message as Say;
use wire::membership::{Action, Ceremony};

use super::{
    super::{
        Device, gone,
        hub::{Hub, wall},
        store::{
            StoreError,
            ssh::{Consent, Terms},
        },
    },
    settle,
};
use crate::api::{ApiEvent, DeviceLine, Failure, Request, SshAllow, SshReply};

type Reply = Result<Value, Failure>;

fn answer(value: impl serde::Serialize) -> Reply {
    serde_json::to_value(value).map_err(|error| Failure::failed("internal", error))
}

fn lost(error: StoreError) -> Failure {
    Failure::failed("state", error)
}

/// True for requests about SSH.
pub(in crate::device) fn is_about_ssh(request: &Request) -> bool {
    matches!(
        request,
        Request::SshAllow(_)
            | Request::SshForget { .. }
            | Request::SshCandidates { .. }
            | Request::SshSessions { .. }
    )
}

impl Device {
    /// Carries out such a request.
    pub(in crate::device) async fn ask_ssh(&self, request: Request) -> Reply {
        let hub = &self.hub;
        match request {
            Request::SshAllow(allow) => {
                let begun = hub.with(move |hub| hub.allow_ssh(allow)).await.ok_or_else(gone)?;
                let (device, mut reply) = begun?;
                if reply.linked {
                    for event in settle(hub, device).await {
                        let ApiEvent::Installed { name, direction, .. } = event else { continue };
                        match direction.as_str() {
                            "to_peer" => reply.alias = Some(name),
                            _ => reply.installed = true,
                        }
                    }
                }
                answer(reply)
            }
            Request::SshForget { device } => {
                let begun = hub.with(move |hub| hub.forget_ssh(&device)).await.ok_or_else(gone)?;
                begun?.await.map_err(|_| gone())??;
                Ok(serde_json::json!({}))
            }
            Request::SshCandidates { group } => {
                let found = hub.with(move |hub| hub.ssh_candidates(group.as_deref())).await;
                answer(found.ok_or_else(gone)??)
            }
            Request::SshSessions { device } => {
                let begun =
                    hub.with(move |hub| hub.ssh_sessions(&device)).await.ok_or_else(gone)?;
                answer(begun?.await.map_err(|_| gone())?)
            }
            _ => Err(Failure::failed("internal", "that is no question about SSH")),
        }
    }
}

impl Hub {
    /// A device of any group that this one is in, by name or the beginning of its id.
    fn any_device(&self, text: &str) -> Result<DeviceId, Failure> {
        let mut found: Vec<DeviceId> = Vec::new();
        for (group, _) in self.groups.iter() {
            match self.groups.find_device(group, text) {
                Ok(device) => found.push(device),
                Err(failure) if failure.kind == "no_device" => {}
                Err(failure) => return Err(failure),
            }
        }
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [one] if one == self.me => {
                Err(Failure::usage("itself", format!("{text} is this device")).hint("kin devices"))
            }
            [one] => Ok(one),
            [] => Err(Failure::usage("no_device", format!("no group of this device has {text}"))
                .hint("kin devices lists those that it knows; kin ssh pair is for others")),
            _ => Err(Failure::usage("ambiguous", format!("there are several devices {text}"))
                .hint("give the beginning of its id: kin devices")),
        }
    }

    fn allow_ssh(&mut self, allow: SshAllow) -> Result<(DeviceId, SshReply), Failure> {
        let device = self.any_device(&allow.device)?;
        if self.files.is_none() {
            return Err(Failure::failed("no_ssh", "this device leaves SSH alone"));
        }
        for net in &allow.networks {
            net.parse::<ssh::Cidr>()
                .map_err(|error| Failure::usage("subnet", format!("{net}: {error}")))?;
        }
        let old = self.store.ssh_consent(&device).map_err(lost)?;
        let (old_in, old_out) =
            old.as_ref().map_or((false, false), |it| (it.into_here, it.from_here));
        let terms = match (allow.into_here, old) {
            (None, Some(old)) => old.terms,
            _ => Terms { expires: allow.expires, from: allow.networks },
        };
        let consent = Consent {
            into_here: allow.into_here.unwrap_or(old_in),
            from_here: allow.from_here.unwrap_or(old_out),
            terms,
        };
        self.store.put_ssh(&device, &consent, wall()).map_err(lost)?;
        self.welcome_ssh(&device);
        self.begin_ssh(&device);
        let reply = SshReply {
            device: device.to_string(),
            name: self.name_of(&device),
            linked: self.ssh_conn(&device).is_some(),
            allowed: consent.into_here,
            wanted: consent.from_here,
            installed: false,
            alias: None,
        };
        Ok((device, reply))
    }

    /// A person takes SSH with a device back, in both directions.
    fn forget_ssh(
        &mut self,
        device: &str,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Failure> {
        let device: DeviceId = device
            .parse()
            .map_err(|error| Failure::usage("no_device", format!("{device}: {error}")))?;
        let none = Consent { into_here: false, from_here: false, terms: Terms::default() };
        let (done, forgotten) = oneshot::channel();
        let Some(files) = &self.files else {
            return Err(Failure::failed("no_ssh", "this device leaves SSH alone"));
        };
        // Before the files: what was taken away must not come back with the next link.
        if self.store.ssh_consent(&device).map_err(lost)?.is_some() {
            self.store.put_ssh(&device, &none, wall()).map_err(lost)?;
        }
        files.run(move |here| {
            let result = here.and_then(|here| here.home.forget(&Tag::device(&device)));
            let result = result.map(|_| ());
            // Whoever asked may have gone.
            let _ = done.send(
                result.map_err(|error| Failure::failed(error.kind(), &error).hint(error.hint())),
            );
        });
        if let Some(id) = self.ssh_conn(&device)
            && let Some(conn) = self.conns.get(&id)
        {
            conn.say(Say::SshOpen { turn: 0, server: None });
        }
        Ok(forgotten)
    }

    /// Whom `kin ssh allow --all` means: the present admins, but for those who came by a code (rule T23).
    fn ssh_candidates(&self, group: Option<&str>) -> Result<Vec<DeviceLine>, Failure> {
        let group = self.group_or_used(group)?;
        let Some(held) = self.groups.get(&group) else { return Ok(Vec::new()) };
        let manifest = held.manifest();
        let by_code = |device: &DeviceId| {
            let mut grant = manifest.members.get(device).map(|member| member.grant);
            // A key that was rotated came the way that the first one did.
            while let Some(id) = grant {
                let Some(signed) = held.log().get(&id) else { return true };
                grant = match &signed.operation().action {
                    Action::Admit { ceremony, .. } => return matches!(ceremony, Ceremony::Code(_)),
                    Action::Rotate { .. } => {
                        let author = signed.operation().author;
                        manifest.former.get(&author).map(|former| former.was.grant)
                    }
                    _ => return false,
                };
            }
            true
        };
        let admins = manifest
            .members
            .keys()
            .filter(|device| **device != self.me && manifest.is_admin(device) && !by_code(device));
        Ok(admins.filter_map(|device| self.device_line(&group, device)).collect())
    }

    /// Open connections to this machine's sshd from where a device was seen.
    fn ssh_sessions(&self, device: &str) -> Result<oneshot::Receiver<Vec<String>>, Failure> {
        let device: DeviceId = device
            .parse()
            .map_err(|error| Failure::usage("no_device", format!("{device}: {error}")))?;
        let (done, found) = oneshot::channel();
        let Some(files) = &self.files else {
            let _ = done.send(Vec::new());
            return Ok(found);
        };
        let place = self.places.get(&device);
        let from: Vec<IpAddr> = place
            .map(|place| place.addresses.iter().map(std::net::SocketAddr::ip).collect())
            .unwrap_or_default();
        files.run(move |here| {
            let port = here.map_or(22, |here| here.sshd().port);
            let open = ssh::open_sessions(port, &from);
            let _ = done.send(open.iter().map(ToString::to_string).collect());
        });
        Ok(found)
    }
}

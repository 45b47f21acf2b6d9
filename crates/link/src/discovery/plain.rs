//! Any other service by multicast DNS, for programs that are not ours: its adverts say `version=1` and an
//! IPv4 address. What is heard is a place to look at and nothing more.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use mdns_sd::{IfKind, IfPredicate, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{addrs, failed, port_can_be_shared};
use crate::LinkError;

/// Marks adverts of this program, which speak something better, too.
const MARK: &str = "kin";
/// Most adverts that are told of.
const MAX_TOLD: usize = 256;

/// A place that some program advertises.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainFound {
    /// Where.
    pub addr: SocketAddr,
    /// True if the advert says that it is of this program.
    pub ours: bool,
}

/// An advert and the search for others of its kind, for as long as it lives.
pub struct Plain {
    daemon: ServiceDaemon,
    task: AbortHandle,
}

impl Plain {
    /// Advertises `service` (say `_connecto._tcp.local.`) on a port, if one is given, and searches for
    /// others. `label` names the advert.
    ///
    /// # Errors
    /// [`LinkError::Discovery`] if multicast DNS cannot be used here.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        service: &str,
        label: &str,
        port: Option<u16>,
    ) -> Result<(Self, mpsc::Receiver<PlainFound>), LinkError> {
        port_can_be_shared()?;
        let daemon = ServiceDaemon::new().map_err(failed)?;
        let begun = begin(&daemon, service, label, port);
        let (events, own) = begun.inspect_err(|_| drop(daemon.shutdown()))?;
        let (sender, news) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            let mut told = HashSet::new();
            while let Ok(event) = events.recv_async().await {
                let ServiceEvent::ServiceResolved(service) = event else { continue };
                if Some(&service.fullname) == own.as_ref() {
                    continue;
                }
                let ours = service.txt_properties.iter().any(|pair| pair.key() == MARK);
                for address in &service.addresses {
                    let ScopedIp::V4(v4) = address else { continue };
                    let found =
                        PlainFound { addr: (IpAddr::V4(*v4.addr()), service.port).into(), ours };
                    let new = told.len() < MAX_TOLD && told.insert(found.addr);
                    if new && sender.send(found).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok((Self { daemon, task: task.abort_handle() }, news))
    }
}

type Begun = (mdns_sd::Receiver<ServiceEvent>, Option<String>);

fn begin(
    daemon: &ServiceDaemon,
    service: &str,
    label: &str,
    port: Option<u16>,
) -> Result<Begun, LinkError> {
    let skipped = IfPredicate::new(|interface| addrs::is_skipped(&interface.name));
    daemon.disable_interface(IfKind::Predicate(skipped)).map_err(failed)?;
    let events = daemon.browse(service).map_err(failed)?;
    let Some(port) = port else { return Ok((events, None)) };
    let pairs = [("version", "1"), (MARK, "1")];
    let host = format!("{label}.local.");
    let mut info = ServiceInfo::new(service, label, &host, "", port, &pairs[..])
        .map_err(failed)?
        .enable_addr_auto();
    info.set_requires_probe(false);
    // Such programs are lost without an address of IPv4.
    let used = IfPredicate::new(|interface| {
        interface.ip().is_ipv4() && !addrs::is_skipped(&interface.name)
    });
    info.set_interfaces(vec![IfKind::Predicate(used)]);
    let own = info.get_fullname().to_owned();
    daemon.register(info).map_err(failed)?;
    Ok((events, Some(own)))
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.task.abort();
        // The daemon says goodbye for its adverts as it ends.
        drop(self.daemon.shutdown());
    }
}

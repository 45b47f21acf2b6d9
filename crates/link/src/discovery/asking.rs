//! Who says that a service runs on its host, asked by the one question that every responder answers: which
//! kinds of service there are (RFC 6763, section 9).
//!
//! For programs that neither announce themselves nor answer for their own kind. What matters is from where
//! the answer comes; of the packet it is only asked whether the service's name is in it. It is a hint, as all
//! of discovery.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use mdns_sd::MDNS_PORT;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::mpsc, task::AbortHandle, time::sleep};

use super::{addrs, failed};
use crate::LinkError;

/// Where multicast DNS is spoken (RFC 6762, section 3).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// When it is asked again, after the time before.
const AGAIN: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Largest packet that is looked at (RFC 6762, section 17).
const MAX_PACKET: usize = 9000;
/// Interfaces that are asked on.
const MAX_INTERFACES: usize = 8;
/// Hosts that are told of.
const MAX_TOLD: usize = 64;

/// The question, as long as it lives.
pub struct Asking {
    tasks: Vec<AbortHandle>,
}

impl Asking {
    /// Asks, and tells each host once that names `service` (say `_connecto._tcp.local.`) in an answer.
    ///
    /// # Errors
    /// [`LinkError::Discovery`] if multicast DNS cannot be used here.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(service: &str) -> Result<(Self, mpsc::Receiver<IpAddr>), LinkError> {
        let needle = labels(service).ok_or_else(|| failed("no name of a service"))?;
        let own: Vec<Ipv4Addr> = interfaces();
        let socket = open(&own).map_err(failed)?;
        let (sender, news) = mpsc::channel(16);
        let mut tasks = Vec::new();
        for from in &own {
            let asking = ask(*from);
            tasks.push(tokio::spawn(asking).abort_handle());
        }
        let hearing = hear(socket, needle, own, sender);
        tasks.push(tokio::spawn(hearing).abort_handle());
        Ok((Self { tasks }, news))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn interfaces() -> Vec<Ipv4Addr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let usable = all.into_iter().filter(|one| {
        one.oper_status != if_addrs::IfOperStatus::Down && !addrs::is_skipped(&one.name)
    });
    let mut own: Vec<Ipv4Addr> = usable
        .filter_map(|one| match one.ip() {
            IpAddr::V4(v4) if !v4.is_loopback() => Some(v4),
            _ => None,
        })
        .collect();
    own.truncate(MAX_INTERFACES);
    own
}

/// Answers are sent to the group, so it is heard there.
fn open(own: &[Ipv4Addr]) -> io::Result<UdpSocket> {
    let socket = shared()?;
    for interface in own {
        // One that cannot be heard on keeps none of the others from it.
        let _ = socket.join_multicast_v4(&GROUP, interface);
    }
    UdpSocket::from_std(socket.into())
}

/// A socket on the port that all responders share.
fn shared() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, MDNS_PORT).into();
    socket.bind(&any.into())?;
    Ok(socket)
}

async fn ask(from: Ipv4Addr) {
    let sending = || -> io::Result<UdpSocket> {
        let socket = shared()?;
        socket.set_multicast_if_v4(&from)?;
        socket.set_multicast_ttl_v4(255)?;
        socket.set_multicast_loop_v4(false)?;
        UdpSocket::from_std(socket.into())
    };
    let Ok(socket) = sending() else { return };
    for pause in AGAIN {
        sleep(pause).await;
        // A network that is not there now may be later.
        let _ = socket.send_to(&question(), (GROUP, MDNS_PORT)).await;
    }
}

async fn hear(
    socket: UdpSocket,
    needle: Vec<u8>,
    own: Vec<Ipv4Addr>,
    sender: mpsc::Sender<IpAddr>,
) {
    let mut told: Vec<IpAddr> = Vec::new();
    let mut packet = vec![0; MAX_PACKET];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut packet).await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let ip = from.ip();
        let mine = matches!(ip, IpAddr::V4(v4) if own.contains(&v4) || v4.is_loopback());
        let new = !mine && told.len() < MAX_TOLD && !told.contains(&ip);
        if new && names(packet.get(..len).unwrap_or_default(), &needle) {
            told.push(ip);
            if sender.send(ip).await.is_err() {
                return;
            }
        }
    }
}

/// `_services._dns-sd._udp.local.`, PTR, in one packet (RFC 1035, section 4).
fn question() -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(labels("_services._dns-sd._udp.local.").unwrap_or_default());
    packet.extend([0, 0, 12, 0, 1]);
    packet
}

/// A name as DNS writes it, without its end: that may be a pointer.
fn labels(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len))?;
        bytes.push(len);
        bytes.extend_from_slice(label.as_bytes());
    }
    Some(bytes)
}

/// True for an answer that has the first two labels of the name in it; the rest may be a pointer.
fn names(packet: &[u8], needle: &[u8]) -> bool {
    let is_answer = packet.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let head = needle.strip_suffix(b"\x05local").unwrap_or(needle);
    is_answer && packet.len() > 12 && packet.windows(head.len()).any(|window| window == head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_names_the_service_is_one_and_nothing_else() {
        let needle = labels("_connecto._tcp.local.").unwrap();
        assert_eq!(needle, b"\x09_connecto\x04_tcp\x05local");
        let header = |flags| [&[0, 0, flags, 0][..], &[0; 8]].concat();
        let with = |flags, body: &[u8]| [&header(flags)[..], body].concat();
        assert!(names(&with(0x84, b"x\x09_connecto\x04_tcp\x05local\x00"), &needle));
        assert!(
            names(&with(0x84, b"\x09_connecto\x04_tcp\xc0\x0c"), &needle),
            "the end as a pointer"
        );
        assert!(!names(&with(0x00, b"\x09_connecto\x04_tcp\x05local\x00"), &needle), "a question");
        assert!(!names(&with(0x84, b"\x0e_connecto-sync\x04_tcp\x05local"), &needle));
        // What its program sends at its start, and less.
        for odd in [&[0; 12][..], &[0x84; 3], &[]] {
            assert!(!names(odd, &needle));
        }
    }

    #[test]
    fn the_question_is_one() {
        let packet = question();
        assert_eq!(packet[..12], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(packet.ends_with(b"\x05local\x00\x00\x0c\x00\x01"));
        assert!(labels("a..b").is_none() && labels(&"x".repeat(64)).is_none());
    }
}

//! SSH connections that are open: taking a key away does not end them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Largest list of connections that is looked at.
const MAX_LIST: usize = 4 << 20;
/// `ESTABLISHED` in the kernel's list.
const ESTABLISHED: &str = "01";

/// Connections to this machine's sshd on `port` that come from one of these addresses. Empty where the system has
/// no list (it is Linux's).
#[must_use]
pub fn open_sessions(port: u16, from: &[IpAddr]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for list in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let bytes = tree::read_stream(list.as_ref(), MAX_LIST).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let rows = text.lines().skip(1).filter_map(row);
        let theirs = |(local, peer): &(u16, SocketAddr)| {
            *local == port
                && from.iter().any(|addr| addr.to_canonical() == peer.ip().to_canonical())
        };
        found.extend(rows.filter(theirs).map(|(_, peer)| peer));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Local port and peer of an established connection.
fn row(line: &str) -> Option<(u16, SocketAddr)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, peer, state) = (words.next()?, words.next()?, words.next()?);
    (state == ESTABLISHED).then_some(())?;
    let (_, local_port) = local.split_once(':')?;
    let (addr, peer_port) = peer.split_once(':')?;
    // Words of 32 bits in the machine's order, each printed as a number.
    let word = |at: usize| {
        let text = addr.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
    };
    let addr: IpAddr = match addr.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    let port = |text| u16::from_str_radix(text, 16).ok();
    Some((port(local_port)?, SocketAddr::new(addr, port(peer_port)?)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_open_connection_is_found_and_a_closed_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("is bound").port();
        let client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let (server, peer) = listener.accept().expect("somebody came");
        assert_eq!(open_sessions(port, &[[127, 0, 0, 1].into()]), [peer]);
        assert_eq!(open_sessions(port, &[[127, 0, 0, 2].into()]), []);
        drop((client, server));
        assert_eq!(open_sessions(port, &[[127, 0, 0, 1].into()]), []);
    }

    #[test]
    fn rows_are_read() {
        let line =
            "   1: 0100007F:0016 0202000A:C350 01 00000000:00000000 00:00000000 00000000 0 0 1";
        if cfg!(target_endian = "little") {
            assert_eq!(row(line), Some((22, "10.0.2.2:50000".parse().expect("is one"))));
        }
        assert_eq!(row(&line.replace(" 01 ", " 0A ")), None);
        assert_eq!(row("garbage"), None);
    }
}

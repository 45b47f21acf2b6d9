//! Which interfaces are asked, and which of the addresses heard there are worth dialling. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Most addresses of one advert that are kept.
pub(crate) const MAX_ADDRS: usize = 16;

/// Beginnings of names that container engines, virtual machines and tunnels give their interfaces.
/// Nobody in a person's home is found there, and the same machine would be found many times over.
const SKIPPED: [&str; 18] = [
    "docker",
    "br-",
    "virbr",
    "podman",
    "cni",
    "flannel",
    "cali",
    "lxcbr",
    "lxdbr",
    "incusbr",
    "vmnet",
    "vboxnet",
    "tun",
    "tap",
    "utun",
    "wg",
    "tailscale",
    "zt",
];

/// True for an interface on which nothing is advertised and nobody is sought.
pub(crate) fn is_skipped(interface: &str) -> bool {
    SKIPPED.iter().any(|beginning| interface.starts_with(beginning))
        || interface.strip_prefix("veth").is_some_and(|rest| {
            // As container engines number them; a pair that a person made is called otherwise.
            rest.len() >= 6 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// True for the interface on which a machine speaks to itself.
fn is_loopback(interface: &str) -> bool {
    let unix = interface.strip_prefix("lo").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    unix || interface.starts_with("Loopback")
}

/// An address as it was heard.
pub(crate) struct Heard {
    pub(crate) ip: IpAddr,
    /// Names of the interfaces on which it was heard.
    pub(crate) interfaces: Vec<String>,
    /// Index of the one on which an IPv6 address was heard, 0 if unknown.
    pub(crate) scope: u32,
}

/// The addresses worth dialling, best first: this machine, IPv4, IPv6, and those that hold on one
/// cable only.
pub(crate) fn worth_dialling(heard: impl Iterator<Item = Heard>, port: u16) -> Vec<SocketAddr> {
    let mut addrs: Vec<_> = heard.filter_map(|heard| address(&heard, port)).collect();
    addrs.sort_unstable_by_key(|addr| (rank(addr.ip()), *addr));
    addrs.dedup();
    addrs.truncate(MAX_ADDRS);
    addrs
}

/// Where others may dial this host, best first: addresses of its interfaces as adverts tell them. Those on
/// which the machine speaks to itself only if there is no other.
#[must_use]
pub fn own_addresses(port: u16) -> Vec<SocketAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let up = interfaces.into_iter().filter(|one| one.oper_status != if_addrs::IfOperStatus::Down);
    let heard = up.map(|one| Heard {
        ip: one.ip(),
        scope: one.index.unwrap_or(0),
        interfaces: vec![one.name],
    });
    far_first(worth_dialling(heard, port))
}

fn far_first(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let far: Vec<SocketAddr> =
        addrs.iter().copied().filter(|addr| !addr.ip().is_loopback()).collect();
    if far.is_empty() { addrs } else { far }
}

fn address(heard: &Heard, port: u16) -> Option<SocketAddr> {
    let by = |what: fn(&str) -> bool| heard.interfaces.iter().any(|name| what(name));
    let ip = heard.ip;
    if port == 0
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip != ip.to_canonical()
        // From elsewhere, such an address would lead a device to itself.
        || (ip.is_loopback() && !by(is_loopback))
        || (!heard.interfaces.is_empty() && heard.interfaces.iter().all(|name| is_skipped(name)))
    {
        return None;
    }
    match ip {
        IpAddr::V4(v4) => (!v4.is_broadcast()).then(|| (v4, port).into()),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            (heard.scope != 0).then(|| SocketAddrV6::new(v6, port, 0, heard.scope).into())
        }
        IpAddr::V6(v6) => Some((v6, port).into()),
    }
}

fn rank(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 0,
        IpAddr::V4(v4) if v4.is_link_local() => 3,
        IpAddr::V4(_) => 1,
        IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6) => 4,
        IpAddr::V6(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(ip: &str, interface: &str, scope: u32) -> Heard {
        Heard { ip: ip.parse().unwrap(), interfaces: vec![interface.to_owned()], scope }
    }

    #[test]
    fn containers_and_tunnels_are_skipped_and_cables_are_not() {
        for name in
            ["docker0", "br-1a2b3c", "virbr0", "veth1a2b3c4", "tun0", "wg0", "utun3", "zt7n"]
        {
            assert!(is_skipped(name), "{name}");
        }
        for name in
            ["eth0", "enp3s0", "wlan0", "en0", "kin0", "hosta0", "veth0", "veth-a", "br0", "lo"]
        {
            assert!(!is_skipped(name), "{name}");
        }
    }

    #[test]
    fn addresses_are_ordered_bounded_and_scoped() {
        let addrs = worth_dialling(
            [
                heard("fe80::1", "eth0", 7),
                heard("2001:db8::1", "eth0", 7),
                heard("192.0.2.1", "eth0", 0),
                heard("127.0.0.1", "lo", 0),
                heard("192.0.2.1", "wlan0", 0),
            ]
            .into_iter(),
            9000,
        );
        let expected =
            ["127.0.0.1:9000", "192.0.2.1:9000", "[2001:db8::1]:9000", "[fe80::1%7]:9000"];
        assert_eq!(addrs, expected.map(|addr| addr.parse().unwrap()));
        let many = (0..=255).map(|n| heard(&format!("192.0.2.{n}"), "eth0", 0));
        assert_eq!(worth_dialling(many, 9000).len(), MAX_ADDRS);
    }

    #[test]
    fn what_leads_to_the_machine_itself_is_told_only_if_there_is_nothing_else() {
        let addrs = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (near, far) = ("127.0.0.1:9", "192.0.2.1:9");
        assert_eq!(far_first(addrs(&[near, far])), addrs(&[far]));
        assert_eq!(far_first(addrs(&[near])), addrs(&[near]));
        let own = own_addresses(9);
        assert!(!own.is_empty() && own.iter().all(|addr| addr.port() == 9), "{own:?}");
    }

    #[test]
    fn addresses_that_lead_nowhere_or_back_are_left_out() {
        for (ip, interface, scope) in [
            ("127.0.0.1", "eth0", 0),
            ("::1", "eth0", 2),
            ("0.0.0.0", "eth0", 0),
            ("::", "eth0", 2),
            ("255.255.255.255", "eth0", 0),
            ("224.0.0.251", "eth0", 0),
            ("ff02::fb", "eth0", 2),
            ("::ffff:192.0.2.1", "eth0", 2),
            ("fe80::1", "eth0", 0),
            ("172.17.0.1", "docker0", 0),
        ] {
            let addrs = worth_dialling([heard(ip, interface, scope)].into_iter(), 9000);
            assert!(addrs.is_empty(), "{addrs:?}");
        }
        assert!(worth_dialling([heard("192.0.2.1", "eth0", 0)].into_iter(), 0).is_empty());
    }
}

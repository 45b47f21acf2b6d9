//! Two sites behind NAT, and a host that both can reach: nobody outside can begin anything with what is inside.

use std::{net::Ipv4Addr, path::Path};

use crate::{
    Host, Lan,
    lan::{inside, ip},
};

/// What a router does: it forwards what begins inside, under its own address, and nothing else.
const NAT: &str = "add table ip nat; \
    add chain ip nat leaving { type nat hook postrouting priority 100; }; \
    add rule ip nat leaving oifname \\\"eth0\\\" masquerade; \
    add table ip filter; \
    add chain ip filter passing { type filter hook forward priority 0; policy drop; }; \
    add rule ip filter passing iifname \\\"inner\\\" accept; \
    add rule ip filter passing ct state established,related accept";

/// A public host, two routers, and a host behind each. Everything is taken away on drop.
#[derive(Debug)]
pub struct Sites {
    lan: Lan,
    inner: Vec<Host>,
}

impl Sites {
    /// Makes them; needs `nft`. Files are made under `disk_under`.
    ///
    /// # Panics
    /// If the machine cannot do it.
    #[must_use]
    pub fn new(disk_under: &Path) -> Self {
        let lan = Lan::new(disk_under, 3);
        let mut sites = Self { lan, inner: Vec::new() };
        for number in 1..=2 {
            let router = sites.lan.host(usize::from(number)).namespace().to_owned();
            let host = sites.lan.inner(number);
            let namespace = host.namespace().to_owned();
            sites.inner.push(host);
            ip(&["netns", "add", &namespace]);
            ip(&[
                "link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name",
                "inner", "netns", &router,
            ]);
            let own = sites.address(usize::from(number - 1));
            let gateway = Ipv4Addr::new(192, 168, number, 1);
            inside(
                &router,
                &format!(
                    "ip addr add {gateway}/24 dev inner && ip link set inner up && \
                     echo 1 > /proc/sys/net/ipv4/ip_forward && nft \"{NAT}\""
                ),
            );
            inside(
                &namespace,
                &format!(
                    "ip link set lo up && ip addr add {own}/24 dev eth0 && ip link set eth0 up && \
                     ip route add default via {gateway}"
                ),
            );
        }
        sites
    }

    /// The host that both sites can reach.
    #[must_use]
    pub fn public(&self) -> &Host {
        self.lan.host(0)
    }

    /// The host of a site: 0 or 1.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn site(&self, index: usize) -> &Host {
        &self.inner[index]
    }

    /// From now on the other site reaches a site's host by its address, as behind a router that forwards a port.
    pub fn open_way(&self, index: usize) {
        let to = self.lan.host(index + 1);
        let from = self.lan.host(2 - index);
        let net = Ipv4Addr::new(192, 168, u8::try_from(index).unwrap_or(0) + 1, 0);
        to.sh("nft add rule ip filter passing oifname \"inner\" accept");
        from.sh(&format!("ip route add {net}/24 via {}", to.v4()));
    }

    /// The address of that host, which leads nowhere outside its site.
    #[must_use]
    pub fn address(&self, index: usize) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, u8::try_from(index).unwrap_or(0) + 1, 2)
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        for host in &self.inner {
            // What is left behind here is swept by the next run.
            let _ =
                std::process::Command::new("ip").args(["netns", "del", host.namespace()]).status();
        }
    }
}

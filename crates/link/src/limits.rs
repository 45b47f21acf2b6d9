//! What a stranger may cost: connections, handshakes and time, in total and for each source.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota};

/// Most sources whose rate is remembered at once. Each is forgotten as soon as it has been quiet for
/// long enough to have its whole burst again.
const MAX_SOURCES: usize = 4096;

/// Bounds on work done for peers that have not proven anything yet.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a whole handshake may take, from the first byte to the last.
    pub handshake_timeout: Duration,
    /// Incoming handshakes at once, over all sources.
    pub handshakes: usize,
    /// Incoming handshakes at once from one source.
    pub handshakes_per_source: usize,
    /// Connections that a source may make without waiting.
    pub burst: NonZeroU32,
    /// Connections a second that a source may make after that.
    pub per_second: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const BURST: NonZeroU32 = NonZeroU32::new(16).expect("not zero");
        const PER_SECOND: NonZeroU32 = NonZeroU32::new(4).expect("not zero");
        Self {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            handshakes: 64,
            handshakes_per_source: 8,
            burst: BURST,
            per_second: PER_SECOND,
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, since one host may take
/// any address within it. Link-local addresses are told apart whole: all hosts of a network cable
/// share that prefix, and one of them must not be able to shut out the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source([u8; 16], u32);

impl Source {
    /// Where somebody at this address belongs.
    #[must_use]
    pub fn of(addr: SocketAddr) -> Self {
        match (addr.ip().to_canonical(), addr) {
            (IpAddr::V4(v4), _) => Self(v4.to_ipv6_mapped().octets(), 0),
            (IpAddr::V6(v6), SocketAddr::V6(full)) if v6.is_unicast_link_local() => {
                Self(v6.octets(), full.scope_id())
            }
            (IpAddr::V6(v6), _) => {
                let mut octets = v6.octets();
                octets[8..].fill(0);
                Self(octets, 0)
            }
        }
    }
}

/// Decides on incoming connections.
pub(crate) struct Gate {
    rate: DefaultKeyedRateLimiter<Source>,
    running: Mutex<HashMap<Source, usize>>,
    handshakes: usize,
    per_source: usize,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let quota = Quota::per_second(limits.per_second).allow_burst(limits.burst);
        Arc::new(Self {
            rate: DefaultKeyedRateLimiter::keyed(quota),
            running: Mutex::new(HashMap::new()),
            handshakes: limits.handshakes,
            per_source: limits.handshakes_per_source,
        })
    }

    /// Lets a connection in, or says which limit forbids it. The handshake runs for as long as the
    /// pass is held.
    pub(crate) fn enter(self: &Arc<Self>, source: Source) -> Result<Pass, &'static str> {
        if self.rate.len() >= MAX_SOURCES {
            self.rate.retain_recent();
            self.rate.shrink_to_fit();
            if self.rate.len() >= MAX_SOURCES {
                return Err("too many sources at once");
            }
        }
        if self.rate.check_key(&source).is_err() {
            return Err("too many connections a second from one source");
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.values().sum::<usize>() >= self.handshakes {
            return Err("too many handshakes at once");
        }
        let of_source = running.entry(source).or_default();
        if *of_source >= self.per_source {
            return Err("too many handshakes at once from one source");
        }
        *of_source += 1;
        Ok(Pass { gate: Arc::clone(self), source })
    }
}

/// One running handshake.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    source: Source,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut running = self.gate.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_source) = running.get_mut(&self.source) {
            *of_source = of_source.saturating_sub(1);
            if *of_source == 0 {
                running.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn sources_are_ipv4_addresses_and_ipv6_networks() {
        assert_eq!(source("192.0.2.1:1"), source("192.0.2.1:2"));
        assert_eq!(source("192.0.2.1:1"), source("[::ffff:192.0.2.1]:2"));
        assert_ne!(source("192.0.2.1:1"), source("192.0.2.2:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:1]:9"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_ne!(source("[fe80::1%1]:1"), source("[fe80::2%1]:1"));
        assert_ne!(source("[fe80::1%1]:1"), source("[fe80::1%2]:1"));
        assert_ne!(source("0.0.0.0:1"), source("[::1]:1"));
    }

    #[test]
    fn handshakes_at_once_are_counted_in_total_and_for_each_source() {
        let limits = Limits { handshakes: 3, handshakes_per_source: 2, ..Limits::default() };
        let gate = Gate::new(&limits);
        let (one, other) = (source("192.0.2.1:1"), source("192.0.2.2:1"));
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert!(gate.enter(one).is_err(), "its share");
        let _third = gate.enter(other).unwrap();
        assert!(gate.enter(other).is_err(), "the total");
        drop(first);
        let _fourth = gate.enter(other).unwrap();
        assert!(gate.enter(source("192.0.2.3:1")).is_err());
    }

    #[test]
    fn the_rate_of_one_source_is_not_that_of_another() {
        let limits = Limits::default();
        let gate = Gate::new(&limits);
        let let_in = (0..1000).filter(|_| gate.enter(source("192.0.2.1:1")).is_ok()).count();
        assert!((16..30).contains(&let_in), "{let_in}");
        assert!(gate.enter(source("192.0.2.2:1")).is_ok());
    }

    #[test]
    fn memory_for_sources_is_bounded() {
        let gate = Gate::new(&Limits::default());
        for number in 0..20_000_u32 {
            let addr = IpAddr::from(number.to_be_bytes());
            let _ = gate.enter(Source::of((addr, 1).into()));
            assert!(gate.rate.len() <= MAX_SOURCES);
        }
        assert!(gate.running.lock().unwrap().is_empty());
    }
}

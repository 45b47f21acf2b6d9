//! What a source may cost: connections, requests and bytes (attacks.md 5, 38).

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
};
use wire::relay::Refusal;

/// Most sources whose rate is remembered at once. Each is forgotten as soon as it has been quiet for long
/// enough to have its whole burst again.
const MAX_SOURCES: usize = 1 << 16;
/// Places for all sources beyond those, which share them by chance.
const SHARED: u64 = 1 << 12;
/// How much more a shared place may do than one source.
const SHARED_BY: u32 = 16;

/// How often something may be done: so often at once, and so often a minute after that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// At once.
    pub burst: NonZeroU32,
    /// A minute.
    pub per_minute: NonZeroU32,
}

impl Rate {
    /// A rate; zeros count as one.
    #[must_use]
    pub const fn new(burst: u32, per_minute: u32) -> Self {
        const fn positive(number: u32) -> NonZeroU32 {
            match NonZeroU32::new(number) {
                Some(number) => number,
                None => NonZeroU32::MIN,
            }
        }
        Self { burst: positive(burst), per_minute: positive(per_minute) }
    }
}

/// How much more than one source the networks that it is in may do: its /24 or /48, and its /16 or /32. Each is a
/// small part of the next, so that nobody uses up what all have together from one place on the internet.
const WIDER: [u32; 2] = [8, 64];
/// The same of what is counted while it is open: at least so many times as much as a source, and such a part of the
/// whole where that is more.
const SHARE: [(usize, usize); 2] = [(4, 16), (16, 4)];

/// Bounds on what the relay does for others. A source is an IPv4 address or an IPv6 network of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one source.
    pub connections_per_source: usize,
    /// New connections of a source.
    pub connects: Rate,
    /// Entries that a source asks for.
    pub gets: Rate,
    /// Entries that a source puts or withdraws, mailboxes that it makes, changes or removes.
    pub changes: Rate,
    /// Envelopes that a source deposits, in KiB.
    pub deposits: Rate,
    /// Splices at once, those included of which one end waits for the other.
    pub splices: usize,
    /// Ends of splices at once from one source.
    pub splices_per_source: usize,
    /// How long one end of a splice waits for the other.
    pub splice_wait: Duration,
    /// How long a splice stands on which nothing is said.
    pub splice_idle: Duration,
    /// What a handshake, a request's head and its body may each take.
    pub patience: Duration,
    /// How long a connection stays open without a request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            connections_per_source: 512,
            connects: Rate::new(256, 1200),
            gets: Rate::new(120, 120),
            changes: Rate::new(60, 60),
            deposits: Rate::new(16 << 10, 4 << 10),
            splices: 4096,
            splices_per_source: 64,
            splice_wait: Duration::from_secs(60),
            splice_idle: Duration::from_secs(15 * 60),
            patience: Duration::from_secs(10),
            idle: Duration::from_secs(60),
        }
    }
}

/// What counts as one source.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source([u8; 16]);

impl Source {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => {
                let mut octets = v6.octets();
                octets[8..].fill(0);
                Self(octets)
            }
        }
    }

    /// The source itself, the network that it is in (/24, IPv6: /48), and the one which that is in (/16, /32).
    fn networks(self) -> [Self; 3] {
        let v4 = IpAddr::from(self.0).to_canonical().is_ipv4();
        let within = |bytes: usize| {
            let mut octets = self.0;
            octets.iter_mut().skip(bytes).for_each(|octet| *octet = 0);
            Self(octets)
        };
        let [near, wide] = if v4 { [15, 14] } else { [6, 4] };
        [self, within(near), within(wide)]
    }
}

/// A rate for each source, and for the networks that it is in.
struct Rates([NetworkRates; 3]);

impl Rates {
    fn new(rate: Rate, most: usize) -> Self {
        let wider = |times: u32| Rate {
            burst: rate.burst.saturating_mul(NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN)),
            per_minute: rate
                .per_minute
                .saturating_mul(NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN)),
        };
        let [near, wide] = WIDER.map(wider);
        Self([rate, near, wide].map(|rate| NetworkRates::new(rate, most)))
    }

    /// The smallest is asked first: what is refused there costs its neighbours nothing.
    fn check(&self, source: Source, cost: u32) -> Result<(), Refusal> {
        let networks = source.networks();
        self.0.iter().zip(networks).try_for_each(|(rates, network)| rates.check(network, cost))
    }
}

/// A rate for each network of one size.
struct NetworkRates {
    own: DefaultKeyedRateLimiter<Source>,
    /// When there are too many sources, for all of them: an attacker with many addresses shuts others out by
    /// chance only, and slows them down.
    shared: DefaultKeyedRateLimiter<u64>,
    hasher: RandomState,
    most: usize,
    /// When the table was last gone through: that takes a while, and an attacker could have it done always.
    tidied: Mutex<Option<Instant>>,
}

impl NetworkRates {
    fn new(rate: Rate, most: usize) -> Self {
        let quota = |times| {
            let many = |number: NonZeroU32| number.saturating_mul(times);
            Quota::per_minute(many(rate.per_minute)).allow_burst(many(rate.burst))
        };
        let shared_by = NonZeroU32::new(SHARED_BY).unwrap_or(NonZeroU32::MIN);
        Self {
            own: DefaultKeyedRateLimiter::keyed(quota(NonZeroU32::MIN)),
            shared: DefaultKeyedRateLimiter::keyed(quota(shared_by)),
            hasher: RandomState::new(),
            most,
            tidied: Mutex::default(),
        }
    }

    fn check(&self, source: Source, cost: u32) -> Result<(), Refusal> {
        let Some(cost) = NonZeroU32::new(cost) else { return Ok(()) };
        if self.own.len() >= self.most {
            self.tidy();
        }
        let decided = match self.own.len() < self.most {
            true => self.own.check_key_n(&source, cost),
            false => self.shared.check_key_n(&(self.hasher.hash_one(source) % SHARED), cost),
        };
        // More than the burst will never be let through.
        let Ok(decided) = decided else { return Err(Refusal::TooLarge) };
        decided.map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let after = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            Refusal::Limited { after }
        })
    }

    fn tidy(&self) {
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            self.own.retain_recent();
            self.shared.retain_recent();
            *tidied = Some(Instant::now());
        }
    }
}

/// How often a full table of sources is gone through.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// What a request costs its source.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cost {
    Get,
    Change,
    /// Bytes.
    Deposit(usize),
}

/// Decides what a source may do.
pub(crate) struct Gate {
    limits: Limits,
    connects: Rates,
    gets: Rates,
    changes: Rates,
    deposits: Rates,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connections: usize,
    splices: usize,
    /// Connections and ends of splices, of each source and of the networks that it is in.
    of: [HashMap<Source, (usize, usize)>; 3],
}

impl Open {
    /// True if the source and its networks may have one more, of which `count` is how many they have.
    fn has_room(
        &self,
        source: Source,
        most: [usize; 3],
        count: impl Fn(&(usize, usize)) -> usize,
    ) -> bool {
        let networks = self.of.iter().zip(source.networks()).zip(most);
        networks.into_iter().all(|((of, network), most)| of.get(&network).map_or(0, &count) < most)
    }

    fn change(&mut self, source: Source, change: impl Fn(&mut (usize, usize))) {
        for (of, network) in self.of.iter_mut().zip(source.networks()) {
            let counts = of.entry(network).or_default();
            change(counts);
            if *counts == (0, 0) {
                of.remove(&network);
            }
        }
    }
}

/// What a source, and the networks that it is in, may have at once.
fn shares(of_source: usize, of_all: usize) -> [usize; 3] {
    let [near, wide] =
        SHARE.map(|(times, part)| of_source.saturating_mul(times).max(of_all.div_ceil(part)));
    [of_source, near, wide]
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let rates = |rate| Rates::new(rate, MAX_SOURCES);
        Arc::new(Self {
            limits,
            connects: rates(limits.connects),
            gets: rates(limits.gets),
            changes: rates(limits.changes),
            deposits: rates(limits.deposits),
            open: Mutex::default(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets a connection in for as long as the pass is held.
    pub(crate) fn enter(self: &Arc<Self>, addr: SocketAddr) -> Result<Pass, Refusal> {
        let source = Source::of(addr);
        self.connects.check(source, 1)?;
        let mut open = self.open();
        if open.connections >= self.limits.connections {
            return Err(Refusal::Full);
        }
        let most = shares(self.limits.connections_per_source, self.limits.connections);
        if !open.has_room(source, most, |(connections, _)| *connections) {
            return Err(Refusal::Limited { after: 60 });
        }
        open.change(source, |(connections, _)| *connections += 1);
        open.connections += 1;
        Ok(Pass { gate: Arc::clone(self), source, splice: false })
    }

    /// Decides about a request.
    pub(crate) fn check(&self, source: Source, cost: Cost) -> Result<(), Refusal> {
        match cost {
            Cost::Get => self.gets.check(source, 1),
            Cost::Change => self.changes.check(source, 1),
            Cost::Deposit(bytes) => {
                let kib = u32::try_from(bytes.div_ceil(1 << 10).max(1)).unwrap_or(u32::MAX);
                self.deposits.check(source, kib)
            }
        }
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.open().connections
    }

    /// Ends of splices.
    pub(crate) fn splices(&self) -> usize {
        self.open().splices
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    source: Source,
    splice: bool,
}

impl Pass {
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// The connection becomes an end of a splice.
    pub(crate) fn splice(&mut self) -> Result<(), Refusal> {
        let gate = Arc::clone(&self.gate);
        let mut open = gate.open();
        // Two ends each.
        let all = gate.limits.splices.saturating_mul(2);
        if open.splices >= all {
            return Err(Refusal::Full);
        }
        let most = shares(gate.limits.splices_per_source, all);
        if !open.has_room(self.source, most, |(_, ends)| *ends) {
            return Err(Refusal::Limited { after: 60 });
        }
        open.change(self.source, |(_, ends)| *ends += 1);
        open.splices += 1;
        self.splice = true;
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        open.connections = open.connections.saturating_sub(1);
        open.splices = open.splices.saturating_sub(usize::from(self.splice));
        let splice = usize::from(self.splice);
        open.change(self.source, |(connections, ends)| {
            *connections = connections.saturating_sub(1);
            *ends = ends.saturating_sub(splice);
        });
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;

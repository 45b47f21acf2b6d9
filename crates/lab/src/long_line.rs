//! A long line between two hosts: a TUN device on each, and this process in between, which holds every packet for as
//! long as light would take and lets out no more than the line carries. It needs nothing of the kernel but TUN.

use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Host, Lan, tun::Tun};

/// Bytes a second: 1 Gbit/s. What counts are whole IP packets.
const RATE: u64 = 125_000_000;
/// How long a packet is under way, each way: half of the round trip.
const DELAY: Duration = Duration::from_millis(25);
/// What waits in front of the line at most, as in a router: what is under way in one round trip. The rest is dropped.
const QUEUE: u64 = RATE / 20;
/// Large, as within a data centre: the line itself shall cost little processor time.
const MTU: u32 = 9000;
/// Packets that are due within this time leave together, as network cards do it.
const TOGETHER: Duration = Duration::from_micros(200);
/// The line's own network; that of the hosts' switch is another.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 0, 1), Ipv4Addr::new(10, 78, 0, 2)];

/// When packets that enter a line come out of it.
#[derive(Debug)]
struct Pace {
    /// When the last packet's last byte has entered the line.
    free: Instant,
}

impl Pace {
    /// When a packet of `length` bytes comes out that comes now; nothing if the queue is full.
    fn due(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let start = self.free.max(now);
        let waiting = (start - now).as_nanos() * u128::from(RATE) / 1_000_000_000;
        if waiting + length as u128 > u128::from(QUEUE) {
            return None;
        }
        self.free = start + Duration::from_nanos(length as u64 * 1_000_000_000 / RATE);
        Some(self.free + DELAY)
    }
}

/// What has come out of one way of a [`LongLine`], and when.
#[derive(Debug, Default)]
pub struct Passed {
    /// Bytes until then, at most once a millisecond.
    log: Mutex<Vec<(Instant, u64)>>,
    bytes: AtomicU64,
    /// Packets that the queue had no room for.
    dropped: AtomicU64,
}

impl Passed {
    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn lost(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// When so many bytes had passed.
    #[must_use]
    pub fn when(&self, bytes: u64) -> Option<Instant> {
        self.log().iter().find(|(_, until)| *until >= bytes).map(|(at, _)| *at)
    }

    fn add(&self, length: usize) {
        let bytes = self.bytes.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
        let now = Instant::now();
        let mut log = self.log();
        match log.as_mut_slice() {
            // The last entry grows until its millisecond is over: what passed last is always there.
            [.., (before, _), (at, until)] if now - *before < Duration::from_millis(1) => {
                (*at, *until) = (now, bytes);
            }
            _ => log.push((now, bytes)),
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<(Instant, u64)>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line, from the first host to the second and back. Taken away on drop.
#[derive(Debug)]
pub struct LongLine<'a> {
    ends: [&'a Host; 2],
    to_receiver: Arc<Passed>,
    to_sender: Arc<Passed>,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> LongLine<'a> {
    /// True if this machine has TUN devices.
    #[must_use]
    pub fn is_possible() -> bool {
        Path::new("/dev/net/tun").exists()
    }

    /// Joins the first two hosts by it, and by nothing else.
    ///
    /// # Errors
    /// If the system gives no TUN device, or it cannot be moved to a host.
    pub fn between(lan: &'a Lan) -> Result<Self, String> {
        let ends = [lan.host(0), lan.host(1)];
        let mut devices = Vec::new();
        for (host, (own, other)) in
            ends.iter().zip([(ADDRESSES[0], ADDRESSES[1]), (ADDRESSES[1], ADDRESSES[0])])
        {
            let device = Tun::new().map_err(|e| format!("a TUN device: {e}"))?;
            let name = device.name();
            let moved = Command::new("ip")
                .args(["link", "set", name, "netns", host.namespace(), "name", "line0"])
                .status();
            if !moved.is_ok_and(|status| status.success()) {
                return Err(format!("{name} cannot be moved to {}", host.name()));
            }
            host.sh(&format!(
                "ip link set eth0 down && ip addr add {own} peer {other} dev line0 && \
                 ip link set line0 mtu {MTU} txqueuelen 5000 up"
            ));
            devices.push(Arc::new(device));
        }
        let (to_receiver, to_sender) = (Arc::default(), Arc::default());
        let mut threads = Vec::new();
        if let [left, right] = devices.as_slice() {
            threads.extend(way(left, right, &to_receiver));
            threads.extend(way(right, left, &to_sender));
        }
        Ok(Self { ends, to_receiver, to_sender, threads })
    }

    /// The first host's address on the line.
    #[must_use]
    pub fn address() -> Ipv4Addr {
        ADDRESSES[0]
    }

    /// What has come out at the second host.
    #[must_use]
    pub fn passed(&self) -> &Passed {
        &self.to_receiver
    }

    /// Bytes both ways.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.to_receiver.bytes() + self.to_sender.bytes()
    }

    /// Packets that the queues had no room for, both ways: the routers', and the devices', where this process was late.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let late = self.ends.iter().filter_map(|host| {
            let said = host.sh("cat /sys/class/net/line0/statistics/tx_dropped");
            said.trim().parse::<u64>().ok()
        });
        self.to_receiver.lost() + self.to_sender.lost() + late.sum::<u64>()
    }
}

impl Drop for LongLine<'_> {
    fn drop(&mut self) {
        for host in self.ends {
            // Reading from a device that is gone fails, which ends the thread that does.
            let _ = host.command("ip").args(["link", "del", "line0"]).status();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One direction: a thread that takes packets, and one that lets them out when they are due.
fn way(from: &Arc<Tun>, to: &Arc<Tun>, passed: &Arc<Passed>) -> [JoinHandle<()>; 2] {
    let (enter, leave) = mpsc::channel::<(Instant, Vec<u8>)>();
    let (from, to) = (Arc::clone(from), Arc::clone(to));
    let (entering, leaving) = (Arc::clone(passed), Arc::clone(passed));
    let take = move || {
        let mut pace = Pace { free: Instant::now() };
        let mut buffer = vec![0; MTU as usize];
        loop {
            let length = match from.receive(&mut buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let Some(due) = pace.due(Instant::now(), length) else {
                entering.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            if enter.send((due, buffer.get(..length).unwrap_or_default().to_vec())).is_err() {
                return;
            }
        }
    };
    let let_out = move || {
        for (due, packet) in leave {
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                thread::sleep(early.max(TOGETHER));
            }
            // A host that is taking its interface down takes no packets: they are lost, as on any line.
            if to.send(&packet).is_ok() {
                leaving.add(packet.len());
            }
        }
    };
    [thread::spawn(take), thread::spawn(let_out)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_at_the_lines_rate_and_arrive_half_a_round_trip_later() {
        let start = Instant::now();
        let mut pace = Pace { free: start };
        let packet = Duration::from_micros(72);
        assert_eq!(pace.due(start, 9000), Some(start + packet + DELAY));
        assert_eq!(pace.due(start, 9000), Some(start + packet * 2 + DELAY));
        // Nothing is saved up while the line has nothing to do.
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.due(later, 9000), Some(later + packet + DELAY));
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_dropped_and_takes_no_time_on_the_line() {
        let start = Instant::now();
        let mut pace = Pace { free: start };
        let taken = std::iter::from_fn(|| pace.due(start, 9000)).count() as u64;
        assert_eq!(taken, QUEUE / 9000);
        let full = pace.free;
        assert_eq!(pace.due(start, 9000), None);
        assert_eq!(pace.free, full);
        assert!(pace.due(start + Duration::from_millis(1), 9000).is_some());
    }

    #[test]
    fn it_is_known_when_bytes_passed() {
        let passed = Passed::default();
        let before = Instant::now();
        for _ in 0..1000 {
            passed.add(10);
        }
        assert_eq!(passed.bytes(), 10_000);
        let first = passed.when(1).expect("something passed");
        let last = passed.when(10_000).expect("all of it passed");
        assert!(before <= first && first <= last);
        assert_eq!(passed.when(10_001), None);
    }
}

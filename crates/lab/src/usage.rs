//! What a process and its children cost: processor time and peak memory, from /proc.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// What a process tree has cost.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Usage {
    /// Processor seconds, user and system, of the process and all it started.
    pub cpu: f64,
    /// Sum of each process's own peak of resident memory, in bytes.
    pub peak: u64,
}

impl Usage {
    /// The cost of one process now; nothing if it is gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0);
        Some(Self { cpu: ticks(pid)? as f64 / HERTZ, peak: peak * 1024 })
    }
}

/// The kernel reports processor time to user space in hundredths of a second on every architecture.
const HERTZ: f64 = 100.0;

/// Looks at a process tree until it is asked for the sum. Peaks never shrink, so that the last look
/// before a process ends is what counts.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<u32, Usage>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts looking at process `root` and its descendants.
    #[must_use]
    pub fn start(root: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let thread = std::thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    look(root, &seen);
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                look(root, &seen);
            }
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// Ends the looking; call it before the process is reaped.
    #[must_use]
    pub fn finish(mut self) -> Usage {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Usage::default();
        for usage in seen.values() {
            sum.cpu += usage.cpu;
            sum.peak += usage.peak;
        }
        sum
    }
}

fn look(root: u32, seen: &Mutex<BTreeMap<u32, Usage>>) {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        next += 1;
        // Any thread may have started a process: those of Go programs do.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for pid in pids {
        let Some(now) = Usage::of(pid) else { continue };
        let kept = seen.entry(pid).or_default();
        kept.cpu = kept.cpu.max(now.cpu);
        kept.peak = kept.peak.max(now.peak);
    }
}

/// utime + stime, fields 14 and 15 of /proc/PID/stat (proc(5)).
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; what follows the last one does not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_another_thread_started_is_seen() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut child = std::process::Command::new("cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("`cat` can be started");
            tell.send(child.id()).expect("somebody listens");
            let _ = ended.recv();
            drop(child.stdin.take());
            child.wait().expect("it ends")
        });
        let child = told.recv().expect("it was started");
        let seen = Mutex::default();
        look(std::process::id(), &seen);
        drop(end);
        thread.join().expect("the thread ends");
        let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(seen.contains_key(&child), "{seen:?}");
    }
}

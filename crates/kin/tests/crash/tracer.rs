//! Runs a program and decides at each of its system calls on a folder whether the call goes ahead, fails, or
//! is the last one: by ptrace, with nothing of ours in the program.
//!
//! Calls are counted over all threads, in the order in which they are entered.

use std::{
    collections::HashMap,
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc::user_regs_struct,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// A program that is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A system call that is about to be made on something in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Which one.
    pub(crate) name: &'static str,
    /// The thread that makes it.
    pub(crate) thread: String,
    /// What it is made on, as far as that is known.
    pub(crate) on: String,
    /// True if it changes something, or makes a change durable.
    pub(crate) changes: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {:?} in {}", self.name, self.on, self.thread)
    }
}

/// What is to become of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// It is made.
    Go,
    /// It is not made, and nothing after it: kill -9.
    Kill,
    /// It is not made and fails with this error number.
    Fail(i32),
}

/// How a traced program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` if it was killed.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) said: String,
}

/// How a call is told from others: its number, its name, where it says what it is made on, what it does.
struct Known {
    number: u64,
    name: &'static str,
    on: On,
    does: Does,
}

#[derive(Clone, Copy)]
enum On {
    /// The file handle in the first argument.
    Handle,
    /// The handle in the first argument, and a name beneath it in the second.
    Beneath,
    /// A path in the first argument.
    Path,
    /// A path in the third argument, beneath the handle in the second (symlinkat).
    Third,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Reads,
    Changes,
    /// Changes if its flags, in the third argument, say so.
    ByFlags,
    /// Changes if the flags say so that the third argument points to.
    ByFlagsThere,
}

const fn known(number: u64, name: &'static str, on: On, does: Does) -> Known {
    Known { number, name, on, does }
}

/// The system calls on files, by their numbers on `x86_64`.
const KNOWN: [Known; 33] = [
    known(0, "read", On::Handle, Does::Reads),
    known(1, "write", On::Handle, Does::Changes),
    known(17, "pread64", On::Handle, Does::Reads),
    known(18, "pwrite64", On::Handle, Does::Changes),
    known(20, "writev", On::Handle, Does::Changes),
    known(73, "flock", On::Handle, Does::Reads),
    known(74, "fsync", On::Handle, Does::Changes),
    known(75, "fdatasync", On::Handle, Does::Changes),
    known(77, "ftruncate", On::Handle, Does::Changes),
    known(82, "rename", On::Path, Does::Changes),
    known(83, "mkdir", On::Path, Does::Changes),
    known(84, "rmdir", On::Path, Does::Changes),
    known(87, "unlink", On::Path, Does::Changes),
    known(91, "fchmod", On::Handle, Does::Changes),
    known(138, "fstatfs", On::Handle, Does::Reads),
    known(217, "getdents64", On::Handle, Does::Reads),
    known(257, "openat", On::Beneath, Does::ByFlags),
    known(258, "mkdirat", On::Beneath, Does::Changes),
    known(262, "newfstatat", On::Beneath, Does::Reads),
    known(263, "unlinkat", On::Beneath, Does::Changes),
    known(264, "renameat", On::Beneath, Does::Changes),
    known(265, "linkat", On::Beneath, Does::Changes),
    known(266, "symlinkat", On::Third, Does::Changes),
    known(267, "readlinkat", On::Beneath, Does::Reads),
    known(268, "fchmodat", On::Beneath, Does::Changes),
    known(277, "sync_file_range", On::Handle, Does::Changes),
    known(280, "utimensat", On::Beneath, Does::Changes),
    known(285, "fallocate", On::Handle, Does::Changes),
    known(306, "syncfs", On::Handle, Does::Changes),
    known(316, "renameat2", On::Beneath, Does::Changes),
    known(326, "copy_file_range", On::Third, Does::Changes),
    known(332, "statx", On::Beneath, Does::Reads),
    known(437, "openat2", On::Beneath, Does::ByFlagsThere),
];

/// `O_CREAT` and `O_TRUNC` on Linux.
const CREATES: u64 = 0o100 | 0o1000;

/// Runs `program` with `args`, its home being `home`; `decide` is asked about each call on something beneath
/// `folder`, before it is made.
///
/// # Panics
/// If it cannot be traced, or is not over in two minutes.
pub(crate) fn run(
    program: &Path,
    args: &[&str],
    home: &Path,
    folder: &Path,
    decide: impl FnMut(&Call) -> Then,
) -> Ended {
    // The shell waits until it is traced, then becomes the program.
    let log = std::env::var("KIN_LAB_LOG");
    #[expect(clippy::zombie_processes, reason = "its tracer waits for it, as for all its threads")]
    let mut child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(program)
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("KIN_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .envs(log.iter().map(|level| ("RUST_LOG", level)))
        .stderr(if log.is_ok() { Stdio::inherit() } else { Stdio::null() })
        .spawn()
        .expect("sh starts");
    let mut out = child.stdout.take().expect("piped above");
    let reading = thread::spawn(move || {
        let mut said = Vec::new();
        // What was said before the end counts.
        let _ = out.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let leader = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (over, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let hangs =
            watched.recv_timeout(LIMIT).is_err_and(|e| e == mpsc::RecvTimeoutError::Timeout);
        if hangs {
            // Not yet reaped: its end is awaited by the tracer.
            let _ = kill(leader, Signal::SIGKILL);
        }
        hangs
    });
    let folder = folder.canonicalize().expect("the folder is there");
    let code = Tracer { leader, folder, inside: HashMap::new(), decide }.trace();
    drop(over);
    let hung = watchdog.join().expect("the watchdog ends");
    let said = reading.join().expect("the reader ends");
    assert!(!hung, "not over within {LIMIT:?}: {said}");
    Ended { code, said }
}

/// True if programs can be traced here; what is missing otherwise.
pub(crate) fn probe() -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("system calls are numbered for x86_64 only".to_owned());
    }
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut calls = 0;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let file = dir.path().join("probe");
        let file = file.to_str().unwrap_or_default();
        run(Path::new("touch"), &[file], dir.path(), dir.path(), |_| {
            calls += 1;
            Then::Kill
        })
    }));
    match seen {
        Ok(Ended { code: None, .. }) if calls == 1 && !dir.path().join("probe").exists() => Ok(()),
        Ok(ended) => {
            Err(format!("a process cannot be stopped by ptrace: {calls} calls, {ended:?}"))
        }
        Err(_) => Err("ptrace is not permitted".to_owned()),
    }
}

struct Tracer<F> {
    leader: Pid,
    folder: PathBuf,
    /// Threads inside a call, with the error that it is to give, if any.
    inside: HashMap<Pid, Option<i32>>,
    decide: F,
}

impl<F: FnMut(&Call) -> Then> Tracer<F> {
    fn trace(mut self) -> Option<i32> {
        let stopped = waitpid(self.leader, Some(WaitPidFlag::WUNTRACED)).expect("sh is ours");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "sh stops itself: {stopped:?}");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(self.leader, options).expect("it may be traced");
        kill(self.leader, Signal::SIGCONT).expect("it is ours");
        loop {
            // Children of this thread only: other tests have theirs.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitpid(None, Some(flags)) {
                Err(Errno::EINTR) => continue,
                other => other.expect("it is traced"),
            };
            let (thread, signal) = match status {
                WaitStatus::Exited(pid, code) if pid == self.leader => return Some(code),
                WaitStatus::Signaled(pid, ..) if pid == self.leader => return None,
                WaitStatus::PtraceSyscall(pid) => {
                    self.syscall(pid);
                    (pid, None)
                }
                WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
                WaitStatus::PtraceEvent(pid, ..) => (pid, None),
                _ => continue,
            };
            // One that was killed meanwhile cannot go on; its end comes next.
            let _ = ptrace::syscall(thread, signal);
        }
    }

    /// A thread enters or leaves a call.
    fn syscall(&mut self, thread: Pid) {
        let Ok(mut registers) = ptrace::getregs(thread) else { return };
        if let Some(fails) = self.inside.remove(&thread) {
            if let Some(error) = fails {
                registers.rax = i64::from(-error).cast_unsigned();
                let _ = ptrace::setregs(thread, registers);
            }
            return;
        }
        let mut fails = None;
        if let Some(call) = self.call(thread, &registers) {
            match (self.decide)(&call) {
                Then::Go => {}
                Then::Kill => {
                    // A call that is stopped at its entry is not made any more.
                    let _ = kill(self.leader, Signal::SIGKILL);
                    return;
                }
                Then::Fail(error) => {
                    // No call has this number.
                    registers.orig_rax = u64::MAX;
                    let _ = ptrace::setregs(thread, registers);
                    fails = Some(error);
                }
            }
        }
        self.inside.insert(thread, fails);
    }

    /// What the call is, if it is one on something in the folder.
    fn call(&self, thread: Pid, registers: &user_regs_struct) -> Option<Call> {
        let known = KNOWN.iter().find(|known| known.number == registers.orig_rax)?;
        let handle = |number: u64| {
            let number = i32::try_from(number & 0xffff_ffff).ok()?;
            fs::read_link(format!("/proc/{thread}/fd/{number}")).ok()
        };
        let text = |at: u64| text(thread, at);
        let on = match known.on {
            On::Handle => handle(registers.rdi)?,
            // A name that is absolute stays so.
            On::Beneath => handle(registers.rdi).unwrap_or_default().join(text(registers.rsi)),
            On::Path => PathBuf::from(text(registers.rdi)),
            On::Third if known.name == "symlinkat" => {
                handle(registers.rsi)?.join(text(registers.rdx))
            }
            On::Third => handle(registers.rdx)?,
        };
        let on = on.strip_prefix(&self.folder).ok()?.to_string_lossy().into_owned();
        let changes = match known.does {
            Does::Reads => false,
            Does::Changes => true,
            Does::ByFlags => registers.rdx & CREATES != 0,
            Does::ByFlagsThere => word(thread, registers.rdx) & CREATES != 0,
        };
        let name = fs::read_to_string(format!("/proc/{thread}/comm")).unwrap_or_default();
        Some(Call { name: known.name, thread: name.trim().to_owned(), on, changes })
    }
}

/// Eight bytes of the traced program's memory; zero where there are none.
fn word(thread: Pid, at: u64) -> u64 {
    let at = usize::try_from(at).unwrap_or_default();
    ptrace::read(thread, std::ptr::without_provenance_mut(at)).unwrap_or_default().cast_unsigned()
}

/// A string in the traced program's memory, up to its NUL.
fn text(thread: Pid, mut at: u64) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < 4096 {
        let word = word(thread, at).to_ne_bytes();
        match word.iter().position(|byte| *byte == 0) {
            Some(end) => {
                bytes.extend_from_slice(&word[..end]);
                break;
            }
            None => bytes.extend_from_slice(&word),
        }
        at += 8;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

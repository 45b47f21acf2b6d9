//! Lines from standard input, read only while somebody waits for one.
//!
//! On a terminal, what was typed before a question could be read is discarded (rule T6); that is why
//! reading, flushing and printing happen under one lock. Lines from a pipe or file are kept until they
//! are wanted. A process in the background leaves its terminal alone.

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::getpgrp,
    stdio::stdin,
    termios::{QueueSelector, tcflush, tcgetpgrp},
};
use tokio::sync::mpsc;

/// Longest line in bytes; what is beyond is dropped, and no answer is that long.
const MAX_LINE: usize = 1024;
/// How often a background process looks whether it is in the foreground again.
const FOREGROUND_POLL: Duration = Duration::from_millis(250);

/// What came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Typed {
    /// A line, without its end.
    Line(String),
    /// Input has ended.
    End,
}

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    gate: Arc<Gate>,
    lines: mpsc::Receiver<(u64, Typed)>,
}

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    opened: Condvar,
    terminal: bool,
}

#[derive(Default, Debug)]
struct State {
    /// True while a line is wanted.
    wanted: bool,
    /// Counts up with each question, so that a line cannot answer a later one than it was typed for.
    epoch: u64,
}

impl Input {
    /// Starts a thread that reads standard input when asked to. It lives until the process ends.
    pub(crate) fn stdin() -> Self {
        let (input, send) = Self::new(io::stdin().is_terminal());
        let gate = Arc::clone(&input.gate);
        std::thread::spawn(move || read(&gate, &send));
        input
    }

    fn new(terminal: bool) -> (Self, mpsc::Sender<(u64, Typed)>) {
        let (send, lines) = mpsc::channel(1);
        let gate = Gate { state: Mutex::default(), opened: Condvar::new(), terminal };
        (Self { gate: Arc::new(gate), lines }, send)
    }

    /// Asks: `print`s, then listens for a line. `print` is handed what discards all that was typed on a
    /// terminal so far, and calls it when the question can be read, before it prompts for the answer.
    pub(crate) fn ask<T>(&mut self, print: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
        let mut state = self.gate.lock();
        let printed = print(&mut || {
            if self.gate.terminal && in_foreground() {
                // An error means that there is no terminal any more, and nothing on it to discard.
                let _ = tcflush(stdin(), QueueSelector::IFlush);
            }
        });
        state.epoch += 1;
        state.wanted = true;
        self.gate.opened.notify_one();
        printed
    }

    /// Listens for one more line for the same question.
    pub(crate) fn listen_on(&mut self) {
        self.gate.lock().wanted = true;
        self.gate.opened.notify_one();
    }

    /// Wants no line any more.
    pub(crate) fn pause(&mut self) {
        let mut state = self.gate.lock();
        state.wanted = false;
        state.epoch += 1;
    }

    /// The next line typed for the present question. Cancel safe.
    pub(crate) async fn next(&mut self) -> Typed {
        loop {
            match self.lines.recv().await {
                // The end is the end for every question.
                Some((_, Typed::End)) | None => return Typed::End,
                Some((epoch, line)) if epoch == self.gate.lock().epoch => return line,
                Some(_) => {}
            }
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> u64 {
        let state = self.lock();
        let state = self.opened.wait_while(state, |state| !state.wanted);
        state.unwrap_or_else(PoisonError::into_inner).epoch
    }
}

/// The reading thread.
fn read(gate: &Gate, send: &mpsc::Sender<(u64, Typed)>) {
    let mut lines = Lines::default();
    loop {
        let epoch = gate.wait();
        let Some(typed) = read_one(gate, epoch, &mut lines) else { continue };
        let end = typed == Typed::End;
        if send.blocking_send((epoch, typed)).is_err() || end {
            return;
        }
    }
}

/// A line for the question of `epoch`; `None` if there is none yet, or none is wanted any more.
fn read_one(gate: &Gate, epoch: u64, lines: &mut Lines) -> Option<Typed> {
    if lines.epoch != epoch {
        lines.epoch = epoch;
        if gate.terminal {
            (lines.bytes, lines.unfinished) = (Vec::new(), 0);
        }
    }
    if !lines.is_ready() {
        wait_until_readable(None)?;
        if gate.terminal && !in_foreground() {
            std::thread::sleep(FOREGROUND_POLL);
            return None;
        }
    }
    // Only under the lock is it sure that what is read was typed after the question was printed.
    let mut state = gate.lock();
    if !state.wanted || state.epoch != epoch {
        return None;
    }
    if !lines.is_ready() {
        wait_until_readable(Some(&Timespec::default()))?;
        let mut buffer = [0; MAX_LINE];
        match rustix::io::read(stdin(), &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return None,
            Ok(0) | Err(_) => lines.ended = true,
            Ok(n) => lines.push(&buffer[..n]),
        }
    }
    let typed = lines.take()?;
    state.wanted = false;
    Some(typed)
}

/// Waits until a read would not block, at most for `timeout`; `None` if it still would.
fn wait_until_readable(timeout: Option<&Timespec>) -> Option<()> {
    let stdin = stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut fds, timeout) {
        Ok(0) | Err(Errno::INTR | Errno::AGAIN) => None,
        // What poll cannot say, the read will.
        Ok(_) | Err(_) => Some(()),
    }
}

/// True if this process may read its terminal without being stopped for it.
fn in_foreground() -> bool {
    tcgetpgrp(stdin()).map_or(true, |group| group == getpgrp())
}

/// Bytes that were read, up to the next line's end.
#[derive(Default, Debug)]
struct Lines {
    epoch: u64,
    bytes: Vec<u8>,
    /// Bytes of the line that has not ended yet.
    unfinished: usize,
    ended: bool,
}

impl Lines {
    fn is_ready(&self) -> bool {
        self.ended || self.bytes.contains(&b'\n')
    }

    /// Of a line that is longer than [`MAX_LINE`], the rest is dropped.
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.unfinished = 0;
            } else if self.unfinished == MAX_LINE {
                continue;
            } else {
                self.unfinished += 1;
            }
            self.bytes.push(*byte);
        }
    }

    fn take(&mut self) -> Option<Typed> {
        let line: Vec<u8> = match self.bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => self.bytes.drain(..=end).collect(),
            None if !self.ended => return None,
            None if self.bytes.is_empty() => return Some(Typed::End),
            None => std::mem::take(&mut self.bytes),
        };
        let line = String::from_utf8_lossy(&line);
        Some(Typed::Line(line.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Input whose lines a test sends, each as typed for the question of the epoch that it names.
    pub(crate) fn scripted() -> (Input, mpsc::Sender<(u64, Typed)>) {
        Input::new(false)
    }

    fn line(text: &str) -> Option<Typed> {
        Some(Typed::Line(text.into()))
    }

    #[test]
    fn bytes_become_lines() {
        let mut lines = Lines::default();
        lines.push(b"y 1\r\nn");
        assert_eq!((lines.take(), lines.take()), (line("y 1"), None));
        lines.push(b" 2");
        lines.ended = true;
        assert_eq!((lines.take(), lines.take()), (line("n 2"), Some(Typed::End)));
        assert_eq!(lines.take(), Some(Typed::End));
    }

    #[test]
    fn a_long_line_is_bounded_and_the_next_one_whole() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'y'; MAX_LINE]);
        }
        assert_eq!(lines.bytes.len(), MAX_LINE);
        lines.push(b"\nn 2\n");
        assert_eq!((lines.take(), lines.take()), (line(&"y".repeat(MAX_LINE)), line("n 2")));
    }

    #[tokio::test]
    async fn t6_a_line_for_an_earlier_question_is_dropped() {
        let (mut input, send) = scripted();
        input.ask(|_| ());
        send.send((1, Typed::Line("y".into()))).await.expect("is listened to");
        input.pause();
        input.ask(|_| ());
        let later = tokio::spawn(async move {
            send.send((3, Typed::Line("n".into()))).await.expect("is listened to");
        });
        assert_eq!(input.next().await, Typed::Line("n".into()));
        later.await.expect("was sent");
    }
}

//! Where a passphrase comes from: a prompt without echo, or a file. Never an argument or the
//! environment, where others on this machine could read it.

use std::io::{self, IsTerminal as _};

use identity::Secret;
use rustix::{
    io::Errno,
    stdio::stdin,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use tokio::sync::{mpsc, oneshot};

use crate::{error::CommandError, output::screen::Screen};

/// Longest passphrase in bytes.
pub(crate) const MAX_PASSPHRASE: usize = 1024;
/// Words in a passphrase that is made here.
const WORDS: usize = 4;

/// Asks for a passphrase on standard input. An empty line makes four words, which are shown.
///
/// # Errors
/// If input ends, the line is no passphrase, or a signal comes (`stop_asked`).
pub(crate) async fn prompt(
    screen: &Screen,
    stop_asked: &mut mpsc::Receiver<()>,
) -> Result<Secret<String>, CommandError> {
    let terminal = io::stdin().is_terminal();
    // Before the prompt, so that nothing typed after it is echoed.
    let quiet = terminal.then(Quiet::new).flatten();
    screen.ask(
        "Whoever knows the passphrase is let in.",
        "Passphrase (empty: four words are made for you): ",
        // What is typed ahead is a passphrase too.
        &mut || (),
    );
    let (send, line) = oneshot::channel();
    std::thread::spawn(move || {
        // If the receiver is gone, a signal has come and the process ends.
        let _ = send.send(read_line());
    });
    let line = tokio::select! {
        line = line => line.unwrap_or(Ok(None)),
        _ = stop_asked.recv() => {
            drop(quiet);
            screen.answered(false);
            return Err(CommandError::failed("interrupted", "stopped at the passphrase prompt"));
        }
    };
    drop(quiet);
    // The line's end was not echoed.
    screen.answered(!terminal);
    let line =
        line.map_err(|error| CommandError::failed("io", &format!("standard input: {error}")))?;
    let Some(line) = line else {
        return Err(CommandError::usage("passphrase", "input ended before a passphrase came")
            .hint("type one, or keep it in a file: --passphrase-file FILE"));
    };
    let line = parse(line, "the passphrase")?;
    if !line.is_empty() {
        return Ok(Secret::new(line));
    }
    let words = four_words()?;
    screen.line(&format!("Type these four words on the other devices:\n\n    {words}\n"));
    Ok(Secret::new(words))
}

/// Checks the text of a passphrase file: one line.
///
/// # Errors
/// If it is empty, too long, or more than a line.
pub(crate) fn from_file(what: &str, bytes: Vec<u8>) -> Result<Secret<String>, CommandError> {
    let line = parse(bytes, what)?;
    if line.is_empty() {
        return Err(CommandError::usage("passphrase", &format!("{what} is empty"))
            .hint("write the passphrase into it, on one line"));
    }
    Ok(Secret::new(line))
}

fn parse(mut bytes: Vec<u8>, what: &str) -> Result<String, CommandError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let bad = |why: &str| CommandError::usage("passphrase", &format!("{what} {why}"));
    if bytes.len() > MAX_PASSPHRASE {
        return Err(bad("is too long").hint(&format!("use at most {MAX_PASSPHRASE} bytes")));
    }
    let line = String::from_utf8(bytes).map_err(|_| {
        bad("is not UTF-8 text").hint("use letters, digits, spaces and punctuation")
    })?;
    if line.chars().any(char::is_control) {
        return Err(bad("has a control character or a second line in it")
            .hint("write it on one line, with nothing else"));
    }
    Ok(line)
}

/// Four words of a list of 256: 32 bits, enough for ten guesses a run (rule T5).
fn four_words() -> Result<String, CommandError> {
    let mut random = [0; WORDS];
    getrandom::fill(&mut random)
        .map_err(|error| CommandError::failed("random", &format!("no random numbers: {error}")))?;
    Ok(random.map(|byte| identity::WORDS[usize::from(byte)]).join(" "))
}

/// Reads a line byte by byte, so that what follows it stays for the questions; `None` at the end of
/// input.
fn read_line() -> io::Result<Option<Vec<u8>>> {
    // Room for all of it, so that growing leaves no copy behind in memory.
    let mut line = Vec::with_capacity(MAX_PASSPHRASE + 4);
    loop {
        let mut byte = [0];
        match rustix::io::read(stdin(), &mut byte) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) => {
                // One byte more than is allowed is enough to say that it is too long.
                if line.len() <= MAX_PASSPHRASE + 2 || byte[0] == b'\n' {
                    line.push(byte[0]);
                }
                if byte[0] == b'\n' {
                    return Ok(Some(line));
                }
            }
        }
    }
}

/// The terminal without echo, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    /// `None` if the terminal does not let itself be changed.
    fn new() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // `Flush`: what was typed before the prompt is no passphrase.
        tcsetattr(stdin(), OptionalActions::Flush, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_one_line() {
        let passphrase =
            |text: &[u8]| from_file("x", text.to_vec()).map(|secret| secret.expose().clone());
        assert_eq!(passphrase(b"two words\n"), Ok("two words".into()));
        assert_eq!(passphrase(b"two words\r\n"), Ok("two words".into()));
        assert_eq!(passphrase(" spaces stay ".as_bytes()), Ok(" spaces stay ".into()));
        for bad in [&b""[..], b"\n", b"a\nb\n", b"\xff", b"a\0", &[b'x'; MAX_PASSPHRASE + 1]] {
            let error = passphrase(bad).expect_err("is bad");
            assert_eq!((error.exit.code(), error.hints.len()), (2, 1), "{bad:?}");
        }
    }

    #[test]
    fn t5_an_empty_line_makes_four_words() {
        let [one, other] = [four_words(), four_words()].map(|words| words.expect("is random"));
        assert_eq!(one.split(' ').count(), 4);
        assert_ne!(one, other, "one chance in 2^32");
    }

    #[test]
    fn the_word_list_is_worth_eight_bits_a_word() {
        let words: std::collections::HashSet<_> = identity::WORDS.iter().collect();
        assert_eq!(words.len(), 256);
    }
}

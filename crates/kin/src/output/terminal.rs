//! For a person: one line for what matters, a quiet status line, a bar for long work. All of it on
//! standard error.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use clap::builder::styling::{AnsiColor, Style};
use identity::DeviceId;
use node::{Event, QuestionId};

use super::{
    Output,
    screen::Screen,
    words::{self, Said, Tone},
};
use crate::{
    error::CommandError,
    escape::escape,
    prompt::{Deletions, Question},
};

/// Work that takes longer than this gets a bar, and a line when it is done.
const LONG: Duration = Duration::from_secs(1);
/// How often long work is reported where there is no status line.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Paths that are not in step and named again at the end.
const RECALLED: usize = 10;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default();

/// Shows a run to a person.
#[derive(Debug)]
pub(crate) struct Terminal {
    screen: Screen,
    /// Which of the two devices of `kin demo` speaks.
    on: Option<&'static str>,
    /// A line for every change that arrives.
    show_applied: bool,
    peers: BTreeMap<DeviceId, String>,
    /// When the present work began, and when it was last reported.
    work: Option<(Instant, Instant)>,
    /// True if the next agreement deserves a line.
    news: bool,
    /// What is not in step, and why.
    skipped: BTreeMap<String, String>,
    /// Deletions that stay held, and by the answer to which question.
    held: Option<(QuestionId, u64)>,
    state: String,
}

impl Terminal {
    pub(crate) fn new(screen: Screen, show_applied: bool) -> Self {
        Self {
            screen,
            on: None,
            show_applied,
            peers: BTreeMap::new(),
            work: None,
            news: true,
            skipped: BTreeMap::new(),
            held: None,
            state: "waiting for other devices".to_owned(),
        }
    }

    /// As [`Terminal::new`] for one of the two devices of the demo: lines bear its name, every change
    /// gets one, and there is no status line, since there are two states.
    pub(crate) fn on(screen: Screen, on: &'static str) -> Self {
        Self { on: Some(on), ..Self::new(screen, true) }
    }

    fn say(&self, said: &Said) {
        let (style, word) = match said.tone {
            Tone::Plain => (Style::new(), ""),
            Tone::Good => (GOOD, ""),
            Tone::Warning => (WARNING, "warning: "),
            Tone::Error => (ERROR, "error: "),
        };
        let on = self.on.map(|on| format!("{BOLD}{on:>8}{BOLD:#}  ")).unwrap_or_default();
        let text = &said.text;
        self.screen.line(&match said.tone {
            Tone::Plain | Tone::Good => format!("{on}{style}{text}{style:#}"),
            Tone::Warning | Tone::Error => format!("{on}{style}{word}{style:#}{text}"),
        });
        if let Some(hint) = &said.hint {
            self.screen.line(&format!("{on}{HINT}hint:{HINT:#} {hint}"));
        }
    }

    fn status(&self) {
        if self.on.is_some() {
            return;
        }
        let names: Vec<String> = self.peers.values().map(|name| escape(name)).collect();
        let with =
            if names.is_empty() { String::new() } else { format!(" · {}", names.join(", ")) };
        let held = self.held.map(|(_, count)| words::held(count)).unwrap_or_default();
        let skipped = words::not_in_step(self.skipped.len() as u64);
        let skipped = skipped.map(|text| format!(" · {text}")).unwrap_or_default();
        self.screen.status(&format!("{}{skipped}{held}{with} · Ctrl-C stops", self.state));
    }

    /// At the end: what is not in step.
    fn recall(&self) {
        let Some(text) = words::not_in_step(self.skipped.len() as u64) else { return };
        self.say(&Said::new(Tone::Warning, format!("{text}:")));
        for (path, reason) in self.skipped.iter().take(RECALLED) {
            self.screen.line(&format!("  {}: {}", escape(path), escape(reason)));
        }
        if self.skipped.len() > RECALLED {
            self.screen.line(&format!("  and {} more", self.skipped.len() - RECALLED));
        }
    }

    fn progress(&mut self, files: (u64, u64), bytes: (u64, u64)) {
        let now = Instant::now();
        let text = words::progress(files.0, files.1, bytes.0, bytes.1);
        let (began, reported) = *self.work.get_or_insert((now, now));
        if now - began >= LONG {
            self.news = true;
            if self.on.is_none() {
                self.screen.bar(Some(bytes));
            }
        }
        if !self.screen.is_live() && now - reported >= REPORT_EVERY {
            self.work = Some((began, now));
            self.say(&Said::new(Tone::Plain, text.clone()));
        }
        self.state = text;
    }

    fn in_sync(&mut self, files: u64, bytes: u64, peers: usize, lost: words::Lost) {
        self.work = None;
        self.screen.bar(None);
        let text = words::in_sync(files, bytes, peers, lost);
        let is_worse = lost != (0, 0) && text != self.state;
        if std::mem::take(&mut self.news) || is_worse {
            self.say(&Said::new(Tone::Good, text.clone()));
        }
        self.state = text;
    }
}

impl Output for Terminal {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Progress { files_done, files_total, bytes_done, bytes_total } => {
                self.progress((*files_done, *files_total), (*bytes_done, *bytes_total));
            }
            Event::InSync { files, bytes, peers, not_applied, not_applied_elsewhere, .. } => {
                self.in_sync(*files, *bytes, *peers, (*not_applied, *not_applied_elsewhere));
            }
            Event::Skipped { path, reason } => {
                self.skipped.insert(path.clone(), reason.clone());
            }
            Event::Mended { path } => {
                self.skipped.remove(path);
            }
            Event::Applied { path, kind, from } if self.show_applied => {
                self.say(&Said::new(Tone::Plain, words::applied(path, *kind, from)));
            }
            Event::PeerConnected { device, name, .. } => {
                self.peers.insert(*device, name.clone());
                self.news = true;
                self.state = "comparing".to_owned();
            }
            Event::PeerDisconnected { device, .. } => {
                self.peers.remove(device);
                self.work = None;
                self.screen.bar(None);
                self.news = true;
                if self.peers.is_empty() {
                    self.state = "waiting for other devices".to_owned();
                }
            }
            _ => {}
        }
        if let Some(said) = words::say(event) {
            self.say(&said);
        }
        if matches!(event, Event::Stopped) {
            self.screen.clear();
            self.recall();
        } else {
            self.status();
        }
        Ok(())
    }

    fn question(&mut self, question: &Question, discard: &mut dyn FnMut()) -> io::Result<()> {
        let (before, line) = words::question(question);
        self.screen.ask(&before, &format!("{BOLD}{line}{BOLD:#}"), discard);
        Ok(())
    }

    fn deletions(
        &mut self,
        deletions: &Deletions,
        discard: Option<&mut dyn FnMut()>,
    ) -> io::Result<()> {
        if let Some(discard) = discard {
            let (before, line) = words::deletions_question(deletions);
            self.screen.ask(&before, &format!("{BOLD}{line}{BOLD:#}"), discard);
        } else {
            self.say(&Said::new(Tone::Warning, words::deletions(deletions)));
        }
        Ok(())
    }

    fn held(&mut self, question: QuestionId, deletions: Option<u64>) {
        match deletions {
            Some(deletions) => self.held = Some((question, deletions)),
            None => self.held = self.held.filter(|(held, _)| *held != question),
        }
        self.news = true;
        self.status();
    }

    fn question_over(&mut self, typed: bool) {
        self.screen.answered(typed);
        self.status();
    }

    fn note(&mut self, note: &str) {
        self.say(&Said::new(Tone::Plain, escape(note)));
    }

    fn error(&mut self, error: &CommandError) {
        self.screen.clear();
        show_error(&self.screen, error);
    }
}

/// `error:` and `hint:` lines for the end of a command.
pub(crate) fn show_error(screen: &Screen, error: &CommandError) {
    screen.line(&format!("{ERROR}error:{ERROR:#} {}", error.message));
    for hint in &error.hints {
        screen.line(&format!("{HINT}hint:{HINT:#} {hint}"));
    }
}

/// A line that must not be overlooked.
pub(crate) fn show_warning(screen: &Screen, warning: &str) {
    screen.line(&format!("{WARNING}{BOLD}WARNING:{BOLD:#}{WARNING:#} {warning}"));
}

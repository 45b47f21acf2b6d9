//! Standard error, shared by all that is said on it: lines, logs, a status line and a progress bar that
//! stay below them.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Redraws of the status line a second.
const REDRAWS: u8 = 10;
/// How often the time left is reckoned anew.
const BAR_TICK: Duration = Duration::from_millis(500);

/// Standard error. Clones are the same screen.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    /// `None` if standard error is not a terminal: then there are lines only.
    live: Option<Arc<Live>>,
}

#[derive(Debug)]
struct Live {
    multi: MultiProgress,
    status: ProgressBar,
    bar: Mutex<Option<ProgressBar>>,
    /// The last line of the open question, written again after whatever comes in between.
    asking: Mutex<Option<String>>,
}

impl Screen {
    /// Lines only.
    pub(crate) fn plain() -> Self {
        Self { live: None }
    }

    /// With a status line, if standard error is a terminal that can show one.
    pub(crate) fn stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !io::stderr().is_terminal() || dumb {
            return Self::plain();
        }
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        // The template is ours and a test parses it.
        let style = status_style().unwrap_or_else(|_| ProgressStyle::default_spinner());
        let status = multi.add(ProgressBar::new_spinner().with_style(style));
        let live = Live { multi, status, bar: Mutex::default(), asking: Mutex::default() };
        Self { live: Some(Arc::new(live)) }
    }

    /// True if there is a status line.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Writes a line, which may hold styles of ours and nothing unescaped from outside.
    pub(crate) fn line(&self, line: &str) {
        let Some(live) = &self.live else {
            write(&format!("{line}\n"));
            return;
        };
        let asking = lock(&live.asking);
        match asking.as_deref() {
            // The cursor stands behind the question.
            Some(question) => write(&format!("\n{line}\n{question}")),
            None => live.multi.suspend(|| write(&format!("{line}\n"))),
        }
    }

    /// Writes a question and leaves the cursor behind it; the status line hides until
    /// [`Screen::answered`]. `between` is called when `before` is on the screen.
    pub(crate) fn ask(&self, before: &str, question: &str, between: &mut dyn FnMut()) {
        if let Some(live) = &self.live {
            // Nothing is drawn to a terminal that is gone.
            let _ = live.multi.clear();
            live.multi.set_draw_target(ProgressDrawTarget::hidden());
            *lock(&live.asking) = Some(question.to_owned());
            write(&format!("{before}\n"));
            between();
            write(question);
        } else {
            write(&format!("{before}\n"));
            between();
            write(&format!("{question}\n"));
        }
    }

    /// The question is over.
    pub(crate) fn answered(&self, typed: bool) {
        let Some(live) = &self.live else { return };
        if lock(&live.asking).take().is_some() {
            if !typed {
                write("\n");
            }
            live.multi.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        }
    }

    /// Sets the status line.
    pub(crate) fn status(&self, status: &str) {
        if let Some(live) = &self.live {
            live.status.set_message(status.to_owned());
            live.status.tick();
        }
    }

    /// Shows how far long work is, in bytes; `None` when it is over.
    pub(crate) fn bar(&self, done_of: Option<(u64, u64)>) {
        self.show_bar(done_of, bar_style);
    }

    /// The same, in things that are counted.
    pub(crate) fn counted(&self, done_of: Option<(u64, u64)>) {
        self.show_bar(done_of, count_style);
    }

    fn show_bar(
        &self,
        done_of: Option<(u64, u64)>,
        style: fn() -> Result<ProgressStyle, indicatif::style::TemplateError>,
    ) {
        let Some(live) = &self.live else { return };
        let mut bar = lock(&live.bar);
        match (done_of, &*bar) {
            (None, _) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                    live.multi.remove(&bar);
                }
            }
            (Some((done, total)), Some(bar)) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            (Some((done, total)), None) => {
                let style = style().unwrap_or_else(|_| ProgressStyle::default_bar());
                let new = live
                    .multi
                    .insert_before(&live.status, ProgressBar::new(total).with_style(style));
                new.set_position(done);
                new.reset_eta();
                new.enable_steady_tick(BAR_TICK);
                *bar = Some(new);
            }
        }
    }

    /// Takes the status line and the bar away, for the last lines.
    pub(crate) fn clear(&self) {
        self.answered(false);
        self.bar(None);
        if let Some(live) = &self.live {
            live.status.finish_and_clear();
        }
    }
}

fn status_style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    ProgressStyle::with_template("{wide_msg}")
}

fn bar_style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    let template =
        "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";
    ProgressStyle::with_template(template)
}

fn count_style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {eta} left")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded is for show only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(text: &str) {
    let mut stderr = anstream::stderr().lock();
    // There is nowhere to report that standard error is closed.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Logs go to the same screen, so that they do not tear the status line.
impl io::Write for Screen {
    fn write(&mut self, log: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(log).lines() {
            self.line(line);
        }
        Ok(log.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        assert!(status_style().is_ok() && bar_style().is_ok() && count_style().is_ok());
    }
}

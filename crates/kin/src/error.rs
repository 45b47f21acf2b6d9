//! What a command fails with: a kind for programs, a sentence and hints for people, an exit code.

use std::{borrow::Cow, process::ExitCode};

use crate::escape::escape_line;

/// How a command ends. The numbers are documented (docs/cli.md) and stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// It was tried and did not work.
    Failed,
    /// What was asked for cannot be done as it was asked: usage, or bad input.
    Usage,
    /// The other side said no.
    Refused,
    /// Nobody came in time.
    TimedOut,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::TimedOut => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The end of a command that did not do what it was asked to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CommandError {
    /// A stable word for programs.
    pub(crate) kind: Cow<'static, str>,
    /// One line: what happened, to which file or device. Nothing in it needs escaping.
    pub(crate) message: String,
    /// What to do next, one line each.
    pub(crate) hints: Vec<String>,
    /// How the process exits.
    pub(crate) exit: Exit,
}

impl CommandError {
    /// A failure that is not the fault of what was asked.
    pub(crate) fn failed(kind: &'static str, message: &str) -> Self {
        Self::new(Exit::Failed, kind, message)
    }

    /// What was asked for cannot be done as asked.
    pub(crate) fn usage(kind: &'static str, message: &str) -> Self {
        Self::new(Exit::Usage, kind, message)
    }

    /// `message` may hold text from outside: control characters in it are escaped here, once.
    pub(crate) fn new(exit: Exit, kind: impl Into<Cow<'static, str>>, message: &str) -> Self {
        Self { kind: kind.into(), message: escape_line(message), hints: Vec::new(), exit }
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        if !hint.is_empty() {
            self.hints.push(escape_line(hint));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_without_control_characters() {
        let error =
            CommandError::usage("x", "no \x1b[2Jsuch\nfile C:\\y").hint("try\r\nthis").hint("");
        assert_eq!(error.message, "no \\u{1b}[2Jsuch\\nfile C:\\y");
        assert_eq!(error.hints, ["try\\r\\nthis"]);
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Exit::Failed, Exit::Usage, Exit::Refused, Exit::TimedOut].map(Exit::code);
        assert_eq!(codes, [1, 2, 3, 4]);
    }
}

//! What the commands about a device share: printing what it answered, and asking a person before
//! something is done.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{
    error::CommandError,
    escape::escape,
    input::{Input, Typed},
    output::{json::Json, screen::Screen},
    past,
};

/// Prints data, a line each, to standard output. Nothing in it is from outside unless escaped.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn lines<T: AsRef<str>>(lines: &[T]) -> Result<(), CommandError> {
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    let mut print = || {
        lines.iter().try_for_each(|line| writeln!(out, "{}", line.as_ref()))?;
        out.flush()
    };
    past::written(print())
}

/// Prints values as JSON, one a line.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn json<T: Serialize>(values: &[T]) -> Result<(), CommandError> {
    let mut json = Json::new(io::stdout());
    past::written(values.iter().try_for_each(|value| json.value(value)))
}

/// What was done: the thing itself for a program, a sentence for a person.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn done<T: Serialize>(
    screen: &Screen,
    as_json: bool,
    value: &T,
    said: &str,
) -> Result<(), CommandError> {
    if as_json {
        return json(std::slice::from_ref(value));
    }
    screen.line(said);
    Ok(())
}

/// Asks a person before something is done.
pub(crate) struct Asker<'a> {
    screen: &'a Screen,
    input: Input,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(screen: &'a Screen) -> Self {
        Self { screen, input: Input::stdin() }
    }

    /// Asks; only `y` is yes.
    pub(crate) async fn agreed(&mut self, before: &str, question: &str) -> bool {
        let (screen, question) = (self.screen, format!("{question} [y/N] "));
        self.input.ask(|discard| screen.ask(before, &question, discard));
        let typed = self.input.next().await;
        self.input.pause();
        screen.answered(matches!(typed, Typed::Line(_)));
        matches!(typed, Typed::Line(line) if line.trim().eq_ignore_ascii_case("y"))
    }
}

/// What a command ends with that was not agreed to.
pub(crate) fn not_agreed(what: &str) -> CommandError {
    CommandError::failed("not_agreed", what).hint("only y means yes; --yes answers beforehand")
}

/// The same of a question that `--yes` does not answer (rule T6).
pub(crate) fn not_said_yes(what: &str) -> CommandError {
    CommandError::failed("not_agreed", what).hint("only y means yes")
}

/// Tells whoever did something to folders or devices with a device that does not run that nothing moves so.
pub(crate) fn say_start(screen: &Screen) {
    screen.line(
        "note: this device does not run in the background, and nothing is kept in step until it does: kin up",
    );
}

/// A name from outside with the beginning of the id, to tell two of the same name apart.
pub(crate) fn named(name: &str, id: &str) -> String {
    format!("{} ({})", escape(name), crate::output::words::short(&escape(id)))
}

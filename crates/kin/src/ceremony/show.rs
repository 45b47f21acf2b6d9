//! How a pairing is shown: to a person, or as JSON. Everything from outside is escaped here.

use std::io::{self, IsTerminal as _, Write as _};

use jiff::tz::TimeZone;
use node::api::ApiEvent;

use super::Trust;
use crate::{
    answers::named,
    escape::escape,
    output::{json::Json, screen::Screen},
    prompt::Ask as _,
    qr::Qr,
    when,
};

/// Where the events of a pairing go. An error means that nobody reads any more.
pub(crate) trait Show {
    /// Something happened. Questions come by [`Show::question`], when it is their turn.
    fn event(&mut self, event: &ApiEvent) -> io::Result<()>;
    /// A question is open now; `discard` as in `crate::output::Output::question`.
    fn question(&mut self, question: &Trust, discard: &mut dyn FnMut()) -> io::Result<()>;
    /// One of so many candidates is to be chosen by number.
    fn choose(&mut self, of: u32, discard: &mut dyn FnMut()) -> io::Result<()>;
    /// What was asked last is over; `typed` says whether a line was typed for it.
    fn over(&mut self, typed: bool);
    /// A remark, which may hold names (unescaped).
    fn note(&mut self, note: &str);
}

impl<W: io::Write> Show for Json<W> {
    fn event(&mut self, event: &ApiEvent) -> io::Result<()> {
        self.value(event)
    }

    fn question(&mut self, question: &Trust, discard: &mut dyn FnMut()) -> io::Result<()> {
        // The whole question is one line; what answers it cannot have been typed before.
        discard();
        self.value(question.event())
    }

    fn choose(&mut self, _of: u32, discard: &mut dyn FnMut()) -> io::Result<()> {
        // The candidates themselves are the question.
        discard();
        Ok(())
    }

    fn over(&mut self, _typed: bool) {}

    fn note(&mut self, note: &str) {
        Screen::plain().line(&format!("note: {}", escape(note)));
    }
}

/// Shows a pairing to a person.
#[derive(Debug)]
pub(crate) struct Person {
    screen: Screen,
}

impl Person {
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen }
    }
}

/// Shows a link as a QR code, if the screen is wide enough.
pub(crate) fn show_qr(screen: &Screen, link: &str, columns: usize) {
    match Qr::new(link) {
        Ok(qr) if qr.columns() <= columns => {
            let colours = std::env::var_os("NO_COLOR").is_none();
            qr.lines(colours).iter().for_each(|line| screen.line(line));
        }
        Ok(qr) => screen.line(&format!(
            "note: the QR code needs {} columns; make the window wider, or use --qr-file",
            qr.columns()
        )),
        Err(error) => screen.line(&format!("note: there is no QR code: {error}")),
    }
}

/// How wide the screen is; `None` if nobody looks at it.
pub(crate) fn columns() -> Option<usize> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stderr).ok().map(|size| size.ws_col.into())
}

impl Show for Person {
    fn event(&mut self, event: &ApiEvent) -> io::Result<()> {
        if let ApiEvent::Token { token, link, .. } = event {
            // The token is the data; all else is talk.
            let mut out = io::stdout().lock();
            writeln!(out, "{}\n{}", escape(token), escape(link))?;
            out.flush()?;
            if let Some(columns) = columns() {
                show_qr(&self.screen, link, columns);
            }
        }
        for line in say(event, &TimeZone::system()) {
            self.screen.line(&line);
        }
        Ok(())
    }

    fn question(&mut self, question: &Trust, discard: &mut dyn FnMut()) -> io::Result<()> {
        let (before, line) = ask(question);
        self.screen.ask(&before, &line, discard);
        Ok(())
    }

    fn choose(&mut self, of: u32, discard: &mut dyn FnMut()) -> io::Result<()> {
        let before = "\nMore than one device is there. The name is what it calls itself.";
        self.screen.ask(before, &format!("Which one? [1-{of}] "), discard);
        Ok(())
    }

    fn over(&mut self, typed: bool) {
        self.screen.answered(typed);
    }

    fn note(&mut self, note: &str) {
        self.screen.line(&escape(note));
    }
}

/// What a person is told of an event.
fn say(event: &ApiEvent, zone: &TimeZone) -> Vec<String> {
    match event {
        ApiEvent::Searching { device, name, port } => vec![
            format!("This device is {} on port {port}.", named(name, device)),
            "Looking for others: run kin pair on the other device, too.".to_owned(),
        ],
        ApiEvent::Candidate { number, name, addr } => {
            let name = if name.is_empty() { "a device".to_owned() } else { escape(name) };
            vec![format!("{number:>3}  {name} at {}", escape(addr))]
        }
        ApiEvent::Token { expires, .. } => {
            let millis = u64::try_from(*expires).unwrap_or(0).saturating_mul(1000);
            vec![
                "Give it to the other device: kin pair - there, then paste it.".to_owned(),
                format!(
                    "It lets one device ask to join until {}; this window must stay open.",
                    when::show(millis, zone)
                ),
            ]
        }
        ApiEvent::Waiting { name } => vec![format!("Waiting for the answer on {}.", escape(name))],
        ApiEvent::Pending { reason, .. } if !reason.is_empty() => vec![waits(reason).to_owned()],
        ApiEvent::Pending { device, .. } => vec![format!(
            "Waiting until {} admits this device. Ctrl-C does not give it up: kin pair --status shows it, \
             kin pair --abandon ends it.",
            crate::output::words::short(&escape(device))
        )],
        ApiEvent::Paired { device, name, group, role } => vec![format!(
            "Paired: {} and this device know each other in the group {}. The device that joined is {}.",
            named(name, device),
            escape(group),
            escape(role)
        )],
        ApiEvent::Joined { dir, role, .. } => vec![format!(
            "Joined: the folder is kept in step in {}; this device is {}.",
            escape(&dir.to_string_lossy()),
            escape(role)
        )],
        ApiEvent::Installed { name, user, addr, direction, .. } => match direction.as_str() {
            "to_peer" => vec![format!(
                "SSH: ssh {} goes to {}@{} and asks nothing.",
                escape(name),
                escape(user),
                escape(addr)
            )],
            _ => vec![format!("SSH: {} may log in here as {}.", escape(name), escape(user))],
        },
        ApiEvent::Error { message, hint, .. } => {
            let mut lines = vec![format!("error: {}", escape(message))];
            if !hint.is_empty() {
                lines.push(format!("hint: {}", escape(hint)));
            }
            lines
        }
        // How it ended, the command says.
        _ => Vec::new(),
    }
}

/// What a join by a code waits for.
fn waits(reason: &str) -> &'static str {
    match reason {
        "looking" => {
            "Still looking for the device that issued the code. It has to run there (kin up); across networks both \
             need a relay (kin relay use)."
        }
        "offline" => {
            "The device that issued the code is not reached yet. The join waits for it: Ctrl-C does not give it up, \
             kin pair --status shows it, kin pair --abandon ends it."
        }
        "asked" => "The person there is asked. The join waits: Ctrl-C does not give it up.",
        "suspended" => {
            "The device there looks restored from a backup, and its person has to let codes go on. The join waits."
        }
        _ => "The join waits.",
    }
}

/// What is told before a question, and the question.
fn ask(question: &Trust) -> (String, String) {
    match question.event() {
        ApiEvent::Request { id, device, name, sas, grants } => (
            format!(
                "\nRequest {id}: {} asks to join.\nA yes grants: {}.\n\n    {}\n",
                named(name, device),
                escape(grants),
                escape(sas)
            ),
            format!(
                "Does {} show exactly the same? Compare, then answer y {id} or n {id} [y/N] ",
                escape(name)
            ),
        ),
        ApiEvent::Confirm { device, name, sas, grants, .. } => (
            format!(
                "\n{} is at the other end.\nA yes grants: {}.\n\n    {}\n",
                named(name, device),
                escape(grants),
                escape(sas)
            ),
            format!("Does {} show exactly the same? Compare, then answer [y/N] ", escape(name)),
        ),
        ApiEvent::Offer { name, from, device, role, group, grants, .. } => (
            format!(
                "\n{} offers the folder {} of its group {}, as {}.\nA yes gives: {}.\n",
                named(from, device),
                escape(name),
                escape(group),
                escape(role),
                escape(grants)
            ),
            "Join? [y/N] ".to_owned(),
        ),
        ApiEvent::Ask { about, direction, device, name: unescaped, .. } => {
            let (about, name) = (escape(about), escape(unescaped));
            let question = match (about.as_str(), direction.as_str()) {
                ("ssh", "in") => format!("May {name} log in to this device by SSH?"),
                ("ssh", "out") => {
                    // The name that it gets is this machine's own (rule T24), and shown before it is given.
                    let alias = crate::ssh_files::alias_of(device, unescaped);
                    let alias = alias.map(|alias| format!(", as ssh {alias}")).unwrap_or_default();
                    format!("Shall this device be able to log in to {name} by SSH{alias}?")
                }
                (_, direction) => format!("{about}, {}, with {name}?", escape(direction)),
            };
            (String::new(), format!("{question} [y/N] "))
        }
        // Nothing else becomes a question.
        _ => (String::new(), escape(question.about())),
    }
}

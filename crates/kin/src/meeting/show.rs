//! How an exchange of keys is shown: to a person, or as JSON. Everything from outside is escaped here.

use std::io;

use serde::Serialize;
use ssh::meet::{Event, Made, Question, Setup};
use wire::ssh::Purpose;

use crate::{
    escape::escape,
    output::{
        json::Json,
        screen::Screen,
        terminal::{BOLD, GOOD, WARNING},
        words::short,
    },
    when,
};

/// What this device is and does, for the first lines.
pub(super) struct About {
    device: String,
    user: String,
    purpose: Purpose,
    timeout: Option<u64>,
    key: Option<String>,
    connecto: bool,
    /// Its SSH server has host keys.
    serves: bool,
    expires: Option<i64>,
    from: Vec<String>,
}

impl About {
    pub(super) fn of(setup: &Setup) -> Self {
        Self {
            device: setup.device.id().to_string(),
            user: setup.home.user().to_string(),
            purpose: setup.purpose,
            timeout: setup.timeout.map(|timeout| timeout.as_secs()),
            key: setup
                .own
                .as_ref()
                .map(|own| format!("{} ({})", own.path.display(), own.public.fingerprint())),
            connecto: setup.connecto.is_some(),
            serves: !setup.sshd.host_keys.is_empty(),
            expires: setup.expires,
            from: setup.from.iter().map(ToString::to_string).collect(),
        }
    }
}

impl About {
    /// Until when and from where the other device may log in here, if there are bounds.
    fn terms(&self) -> Option<String> {
        let until = self.expires.map(|end| format!("until {}", when::show_seconds(end)));
        let from = (!self.from.is_empty()).then(|| format!("from {}", self.from.join(", ")));
        let terms: Vec<String> = until.into_iter().chain(from).collect();
        (!terms.is_empty()).then(|| terms.join(", "))
    }
}

/// A line for programs. The names and fields are a contract (docs/cli.md).
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Listening {
        name: &'a str,
        port: Option<u16>,
        device: &'a str,
        addrs: Vec<String>,
    },
    Found {
        index: u32,
        name: &'a str,
        addr: String,
        port: u16,
        kind: &'static str,
    },
    Choose {
        of: u32,
    },
    Confirm {
        id: u32,
        device: Option<String>,
        name: &'a str,
        addr: String,
        fingerprint: &'a str,
        sas: &'a str,
        verified: bool,
        direction: &'static str,
        alias: Option<&'a str>,
        host_key: Option<&'a str>,
    },
    Withdrawn {
        id: u32,
        reason: &'a str,
    },
    Waiting {
        name: &'a str,
    },
    Installed {
        name: &'a str,
        user: &'a str,
        addr: String,
        port: u16,
        key: &'a str,
        direction: &'static str,
        alias: Option<&'a str>,
        device: Option<String>,
        verified: bool,
    },
    Refused {
        reason: &'a str,
    },
    Timeout,
    Done,
}

/// Who logs in where.
fn direction(to_peer: bool, from_peer: bool) -> &'static str {
    match (to_peer, from_peer) {
        (true, true) => "both",
        (true, false) => "to_peer",
        (false, _) => "from_peer",
    }
}

pub(super) struct Show {
    screen: Screen,
    json: Option<Json<io::Stdout>>,
    about: About,
}

impl Show {
    pub(super) fn new(screen: Screen, json: bool, about: About) -> Self {
        Self { screen, json: json.then(|| Json::new(io::stdout())), about }
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Event::Note(note) = event {
            self.note(note);
            return Ok(());
        }
        let Some(json) = &mut self.json else {
            self.say(event);
            return Ok(());
        };
        let line = match event {
            Event::Listening { name, port, addrs } => {
                let addrs = addrs.iter().map(|addr| addr.ip().to_string()).collect();
                Line::Listening { name, port: *port, device: &self.about.device, addrs }
            }
            Event::Found { index, name, addr, kind } => Line::Found {
                index: *index,
                name,
                addr: addr.ip().to_string(),
                port: addr.port(),
                kind: kind.word(),
            },
            Event::Waiting { name } => Line::Waiting { name },
            Event::Installed(made) => Line::Installed {
                name: &made.name,
                user: &made.user,
                addr: made.addr.ip().to_string(),
                port: made.port,
                key: &made.fingerprint,
                direction: direction(made.alias.is_some(), made.lets_in),
                alias: made.alias.as_deref(),
                device: made.device.map(|device| device.to_string()),
                verified: made.verified,
            },
            // The others come by their own ways.
            _ => return Ok(()),
        };
        json.value(&line)
    }

    /// A question is open now.
    pub(super) fn question(
        &mut self,
        question: &Question,
        discard: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let Some(json) = &mut self.json else {
            let (before, ask) = ask(question, &self.about);
            self.screen.ask(&before, &ask, discard);
            return Ok(());
        };
        // The whole question is one line; what answers it cannot have been typed before.
        discard();
        json.value(&Line::Confirm {
            id: question.id,
            device: question.device.map(|device| device.to_string()),
            name: &question.name,
            addr: question.addr.ip().to_string(),
            fingerprint: &question.fingerprint,
            sas: &question.sas,
            verified: question.device.is_some(),
            direction: direction(question.alias.is_some(), question.lets_in),
            alias: question.alias.as_deref(),
            host_key: question.host_key.as_deref(),
        })
    }

    /// One of so many is to be chosen.
    pub(super) fn choose(&mut self, of: u32, discard: &mut dyn FnMut()) -> io::Result<()> {
        match &mut self.json {
            Some(json) => {
                discard();
                json.value(&Line::Choose { of })
            }
            None => {
                let before = "\nMore than one device is there. The name is what it calls itself.";
                self.screen.ask(before, &format!("Which one? [1-{of}] "), discard);
                Ok(())
            }
        }
    }

    pub(super) fn withdrawn(&mut self, id: u32, reason: &str) -> io::Result<()> {
        match &mut self.json {
            Some(json) => json.value(&Line::Withdrawn { id, reason }),
            None => Ok(()),
        }
    }

    /// What was asked last is over.
    pub(super) fn over(&mut self, typed: bool) {
        self.screen.answered(typed);
    }

    pub(super) fn note(&mut self, note: &str) {
        self.screen.line(&format!("note: {}", escape(note)));
    }

    pub(super) fn refused(&mut self, reason: &str) -> io::Result<()> {
        self.json.as_mut().map_or(Ok(()), |json| json.value(&Line::Refused { reason }))
    }

    pub(super) fn timeout(&mut self) -> io::Result<()> {
        self.json.as_mut().map_or(Ok(()), |json| json.value(&Line::Timeout))
    }

    pub(super) fn done(&mut self) -> io::Result<()> {
        self.json.as_mut().map_or(Ok(()), |json| json.value(&Line::Done))
    }

    /// What the other device is to do.
    pub(super) fn other(&self) -> &'static str {
        match self.about.purpose {
            Purpose::Listen => {
                "run kin ssh pair on the other device; in another network, with this one's address"
            }
            Purpose::Pair => {
                "run kin ssh listen on the other device; in another network, name its address here"
            }
            Purpose::Sync | Purpose::Look => {
                "run kin ssh sync on the other device, in the same network"
            }
        }
    }

    fn say(&self, event: &Event) {
        match event {
            Event::Listening { name, port, addrs } => self.say_listening(name, *port, addrs),
            Event::Found { index, name, addr, kind } => {
                let name = if name.is_empty() { "a device".to_owned() } else { escape(name) };
                let other = if *kind == ssh::meet::Kind::Kinfold { "" } else { " (Connecto)" };
                self.screen.line(&format!("{index:>3}  {name} at {addr}{other}"));
            }
            Event::Waiting { name } => {
                self.screen.line(&format!("Waiting for the answer on {}.", escape(name)));
            }
            Event::Installed(made) => {
                summary(made).iter().for_each(|line| self.screen.line(line));
            }
            // The others come by their own ways.
            _ => {}
        }
    }

    fn say_listening(&self, name: &str, port: Option<u16>, addrs: &[std::net::SocketAddr]) {
        let About { device, user, purpose, timeout, key, connecto, serves, .. } = &self.about;
        let line = |text: &str| self.screen.line(text);
        line(&format!("This device is {} ({}).", escape(name), short(device)));
        if let Some(port) = port {
            let addrs: Vec<String> = addrs.iter().map(|addr| addr.ip().to_string()).collect();
            line(&format!("  port       {port}"));
            line(&format!("  addresses  {}", addrs.join(" ")));
        }
        if let Some(key) = key {
            line(&format!("  key        {}", escape(key)));
        }
        if let Some(seconds) = timeout {
            line(&format!("  timeout    {seconds} s"));
        }
        if let Some(terms) = self.about.terms() {
            line(&format!("  access     {terms}"));
        }
        let warn = |text: &str| line(&format!("{WARNING}warning:{WARNING:#} {text}"));
        if !serves && purpose.lets_in() {
            warn(
                "no SSH server is set up here (no host keys in /etc/ssh): the other device could not log in.",
            );
        }
        if *connecto {
            warn(
                "--connecto: Connecto proves nothing. Whoever is on this network can claim to be any device.",
            );
        }
        line(&match purpose {
            Purpose::Listen => format!(
                "Waiting for a device that is to log in here as {}: run kin ssh pair on it. Ctrl-C stops.",
                escape(user)
            ),
            Purpose::Pair => {
                "Looking for the device to log in to: run kin ssh listen on it.".to_owned()
            }
            Purpose::Sync | Purpose::Look => {
                "Looking for another device: run kin ssh sync on it, too. Ctrl-C stops.".to_owned()
            }
        });
    }
}

/// What is told before a question, and the question.
fn ask(question: &Question, about: &About) -> (String, String) {
    let (name, addr) = (escape(&question.name), question.addr.ip());
    let key = escape(&question.fingerprint);
    let mut grants = Vec::new();
    if question.lets_in {
        let terms = about.terms().map_or(String::new(), |terms| format!(", {terms}"));
        grants.push(format!(
            "{name} may log in here as {} with the key\n        {key}{terms}",
            escape(&about.user)
        ));
    }
    if let Some(alias) = &question.alias {
        grants.push(format!("this device may log in to {name}, by: ssh {}", escape(alias)));
    }
    let grants = grants.join(";\n    ");
    if question.device.is_some() {
        let before = format!(
            "\n{name} ({addr}) is at the other end. A yes on both sides means:\n    {grants}.\n\n    {BOLD}{}{BOLD:#}\n",
            escape(&question.sas)
        );
        let ask = format!("Does {name} show exactly the same? Compare, then answer [y/N] ");
        return (before, ask);
    }
    let host_key = match &question.host_key {
        Some(key) => format!("\nIts SSH server shows the host key {}.", escape(key)),
        None => String::new(),
    };
    let who = if question.name == addr.to_string() {
        format!("Somebody at {addr} speaks Connecto and gives no name.")
    } else {
        format!("Somebody at {addr} says to be {name}, in Connecto's way.")
    };
    let before = format!(
        "\n{who}\n\
         {WARNING}Nothing proves that:{WARNING:#} compare the key with what ssh-keygen -l shows on that device.\n\
         A yes means:\n    {grants}.{host_key}\n"
    );
    (before, format!("Is that {name}, and is it meant? [y/N] "))
}

/// What was done, and what to do next.
fn summary(made: &Made) -> Vec<String> {
    let (name, user, addr) = (escape(&made.name), escape(&made.user), made.addr.ip());
    let unverified = if made.verified { "" } else { " (not verified)" };
    let (done, next) = match (&made.alias, made.lets_in) {
        (Some(alias), true) => (
            format!("Done: {name}{unverified} and this device can log in to each other."),
            vec![format!("ssh {}", escape(alias)), format!("kin ssh test {}", escape(alias))],
        ),
        (Some(alias), false) => (
            format!("Done: this device can log in to {name}{unverified}."),
            vec![format!("ssh {}", escape(alias)), format!("kin ssh test {}", escape(alias))],
        ),
        (None, _) => (format!("Done: {name}{unverified} can log in here as {user}."), Vec::new()),
    };
    let mut lines = vec![format!("{GOOD}{done}{GOOD:#}")];
    lines.push(format!("  peer       {name}"));
    if made.alias.is_some() {
        lines.push(format!("  user       {user}"));
        lines.push(format!("  address    {addr}, SSH on port {}", made.port));
    } else {
        lines.push(format!("  address    {addr}"));
    }
    lines.push(format!("  key        {}", escape(&made.fingerprint)));
    if !next.is_empty() {
        lines.push("Next:".to_owned());
        lines.extend(next.iter().map(|next| format!("  {next}")));
    }
    lines.push(format!("kin ssh unpair {name} takes it back."));
    lines
}

#[cfg(test)]
mod tests {
    use identity::DeviceId;

    use super::*;

    fn about() -> About {
        About {
            device: "kd1x".into(),
            user: "alice".into(),
            purpose: Purpose::Sync,
            timeout: None,
            key: None,
            connecto: true,
            serves: true,
            expires: None,
            from: vec!["10.0.2.0/24".into()],
        }
    }

    fn question(device: Option<DeviceId>) -> Question {
        Question {
            id: 1,
            device,
            name: "la\u{1b}[2Jp".into(),
            addr: ([10, 0, 0, 2], 8099).into(),
            fingerprint: "SHA256:abc".into(),
            sas: if device.is_some() { "maple otter 42 17".into() } else { String::new() },
            alias: Some("lap".into()),
            host_key: Some("SHA256:host".into()),
            lets_in: true,
        }
    }

    #[test]
    fn t9_a_question_says_what_a_yes_means_and_what_is_proven() {
        let (before, ask_) = ask(&question(Some(DeviceId([7; 32]))), &about());
        for part in
            ["log in here as alice", "SHA256:abc, from 10.0.2.0/24", "ssh lap", "maple otter 42 17"]
        {
            assert!(before.contains(part), "{part}: {before}");
        }
        assert!(ask_.contains("exactly the same") && !before.contains("Nothing proves"));
        let (before, ask_) = ask(&question(None), &about());
        for part in ["Nothing proves that", "SHA256:abc", "SHA256:host", "10.0.0.2", "Connecto"] {
            assert!(before.contains(part), "{part}: {before}");
        }
        assert!(!ask_.contains("same"));
    }

    #[test]
    fn hole_9_no_escape_of_another_device_reaches_the_terminal() {
        let (before, ask_) = ask(&question(None), &about());
        let ours = |text: &str| {
            text.replace(&format!("{WARNING}"), "").replace(&format!("{WARNING:#}"), "")
        };
        assert!(!ours(&before).contains('\u{1b}') && !ask_.contains('\u{1b}'));
        let made = Made {
            device: None,
            name: "\u{1b}[31m".into(),
            user: "al".into(),
            addr: ([10, 0, 0, 2], 1).into(),
            port: 22,
            fingerprint: "SHA256:abc".into(),
            alias: Some("lap".into()),
            lets_in: true,
            verified: false,
        };
        let lines = summary(&made)
            .join("\n")
            .replace(&format!("{GOOD}"), "")
            .replace(&format!("{GOOD:#}"), "");
        assert!(!lines.contains('\u{1b}') && lines.contains("(not verified)"), "{lines}");
    }
}

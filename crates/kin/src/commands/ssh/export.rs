//! `kin ssh export` and `kin ssh import`: what is installed, as a file without any private key (rule T23).

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use ssh::{Access, Alias, Cidr, Here, Host, HostName, PublicKey, Tag, UserName};

use crate::{
    answers::{self, Asker},
    error::CommandError,
    escape::escape,
    output::screen::Screen,
    ssh_files, when,
};

/// Largest file that is read.
const MAX_FILE: usize = 4 << 20;
/// Most devices in it.
const MAX_DEVICES: usize = 1000;
/// Its form.
const VERSION: u32 = 1;

/// Write what is installed into a file, to be taken over on another machine; no private key is in it
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// A new file; standard output without one
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Take over what kin ssh export wrote; each key is asked about
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    kinfold_ssh: u32,
    devices: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    device: String,
    name: String,
    #[serde(default)]
    allowed: Vec<Leave>,
    #[serde(default)]
    host: Option<Place>,
}

/// It may come in.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    key: String,
    #[serde(default)]
    expires: Option<i64>,
    #[serde(default)]
    from: Option<String>,
}

/// It is reached.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    alias: String,
    user: String,
    addr: String,
    port: u16,
    host_keys: Vec<String>,
}

/// Writes it.
pub(super) fn export(screen: &Screen, args: &ExportArgs) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    let installed = here.home.installed()?;
    for one in installed.iter().filter(|one| one.access.iter().any(|leave| leave.others)) {
        screen.line(&format!(
            "{} is left out as far as it may log in here: its line in authorized_keys has terms that kin does not write.",
            escape(&one.name)
        ));
    }
    let entry = |one: ssh::Installed| Entry {
        device: one.tag.as_str().to_owned(),
        name: one.name,
        allowed: one
            .access
            .iter()
            .filter(|leave| !leave.others)
            .filter_map(|leave| {
                let key = leave.key.as_ref()?.to_string();
                Some(Leave { key, expires: leave.expires, from: leave.from.clone() })
            })
            .collect(),
        host: one.host.map(|host| Place {
            alias: host.alias.to_string(),
            user: host.user,
            addr: host.host_name,
            port: host.port,
            host_keys: host.host_keys.iter().map(PublicKey::to_string).collect(),
        }),
    };
    let devices = installed.into_iter().map(entry).collect();
    let book = Book { kinfold_ssh: VERSION, devices };
    let Some(file) = &args.file else { return answers::json(&[book]) };
    let mut text = serde_json::to_vec_pretty(&book)
        .map_err(|error| CommandError::failed("output", &error.to_string()))?;
    text.push(b'\n');
    tree::create_secret_file(file, &text).map_err(|error| {
        CommandError::failed("io", &format!("{}: {error}", file.display()))
            .hint("name a file that is not there yet")
    })?;
    screen.line(&format!("{} has it. No private key is in it.", file.display()));
    Ok(())
}

#[derive(Serialize)]
struct Ask<'a> {
    event: &'static str,
    id: u32,
    about: &'static str,
    direction: &'static str,
    device: &'a str,
    name: &'a str,
    fingerprint: &'a str,
    /// Until when it may log in here, in seconds since 1970.
    expires: Option<i64>,
    /// From which networks it may; from everywhere if there are none.
    from: Vec<String>,
}

#[derive(Serialize)]
struct Imported {
    event: &'static str,
    installed: u32,
    left: u32,
}

/// Reads it, and installs what a person agrees to.
pub(super) async fn import(
    screen: &Screen,
    json: bool,
    args: &ImportArgs,
) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    let bad = |why: &str| {
        CommandError::usage("import", &format!("{}: {why}", args.file.display()))
            .hint("it must be as kin ssh export wrote it")
    };
    let text = tree::read_config(&args.file, MAX_FILE).map_err(|error| bad(&error.to_string()))?;
    let book: Book = serde_json::from_str(&text).map_err(|error| bad(&error.to_string()))?;
    if book.kinfold_ssh != VERSION || book.devices.len() > MAX_DEVICES {
        return Err(bad("it is of another version, or has too many devices"));
    }
    // All of it is looked at before anything is asked.
    let mut wishes = Vec::new();
    for entry in &book.devices {
        wishes.extend(
            parse(&here, entry).map_err(|why| bad(&format!("{}: {why}", escape(&entry.name))))?,
        );
    }
    let mut asker = Asker::new(screen);
    let (mut installed, mut left) = (0, 0);
    let mut leaves: BTreeMap<Tag, Vec<Access>> = BTreeMap::new();
    for (id, (entry, wish)) in wishes.into_iter().enumerate() {
        if wish.is_over() {
            screen.line(&format!("{}: its leave has ended, and is left.", escape(&entry.name)));
            left += 1;
            continue;
        }
        let fingerprint = wish.fingerprint();
        if json {
            let id = u32::try_from(id + 1).unwrap_or(u32::MAX);
            let (event, about, direction) = ("ask", "ssh_import", wish.direction());
            let (device, name) = (entry.device.as_str(), entry.name.as_str());
            let fingerprint = &fingerprint;
            let (expires, from) = wish.terms();
            answers::json(&[Ask {
                event,
                id,
                about,
                direction,
                device,
                name,
                fingerprint,
                expires,
                from,
            }])?;
        }
        if !asker.agreed("", &wish.question(&entry.name)).await {
            left += 1;
            continue;
        }
        match wish {
            Wish::In(access) => {
                // One device may have several leaves: the second one does not take the place of the first.
                let (tag, of_it) =
                    (access.tag.clone(), leaves.entry(access.tag.clone()).or_default());
                of_it.push(*access);
                here.home.allow_each(&tag, of_it)?
            }
            Wish::Out(host) => here.home.reach(&host)?,
        };
        installed += 1;
    }
    let said = format!("{installed} installed, {left} left.");
    answers::done(screen, json, &Imported { event: "imported", installed, left }, &said)
}

/// Something that would be installed.
enum Wish {
    In(Box<Access>),
    Out(Box<Host>),
}

impl Wish {
    fn direction(&self) -> &'static str {
        match self {
            Self::In(_) => "in",
            Self::Out(_) => "out",
        }
    }

    fn fingerprint(&self) -> String {
        match self {
            Self::In(access) => access.key.fingerprint().to_owned(),
            Self::Out(host) => {
                let keys: Vec<&str> = host.host_keys.iter().map(PublicKey::fingerprint).collect();
                keys.join(" ")
            }
        }
    }

    /// Until when, and from where it may log in here.
    fn terms(&self) -> (Option<i64>, Vec<String>) {
        match self {
            Self::In(access) => {
                (access.expires, access.from.iter().map(ToString::to_string).collect())
            }
            Self::Out(_) => (None, Vec::new()),
        }
    }

    fn is_over(&self) -> bool {
        let now = i64::try_from(when::now() / 1000).unwrap_or(i64::MAX);
        self.terms().0.is_some_and(|end| end <= now)
    }

    fn question(&self, name: &str) -> String {
        let (name, fingerprint) = (escape(name), self.fingerprint());
        match self {
            Self::In(_) => {
                let (expires, from) = self.terms();
                let from = if from.is_empty() {
                    ", from anywhere".to_owned()
                } else {
                    format!(", from {}", from.join(", "))
                };
                let until = match expires {
                    Some(end) => format!("until {}", when::show_seconds(end)),
                    None => "for ever".to_owned(),
                };
                format!("May {name} log in here with the key {fingerprint}{from}, {until}?")
            }
            Self::Out(host) => format!(
                "Is {}@{} port {} {name}, with the host key {fingerprint}?",
                host.user, host.host_name, host.port
            ),
        }
    }
}

fn parse<'a>(here: &Here, entry: &'a Entry) -> Result<Vec<(&'a Entry, Wish)>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let tag = Tag::new(&entry.device).map_err(|error| text(&error))?;
    let mut wishes = Vec::new();
    for leave in &entry.allowed {
        let from = leave.from.as_deref().unwrap_or_default();
        let from = from.split(',').filter(|net| !net.is_empty());
        let from: Result<Vec<Cidr>, _> = from.map(str::parse).collect();
        let access = Access {
            key: PublicKey::parse(&leave.key).map_err(|error| text(&error))?,
            tag: tag.clone(),
            name: entry.name.clone(),
            expires: leave.expires,
            from: from.map_err(|error| text(&error))?,
        };
        wishes.push((entry, Wish::In(Box::new(access))));
    }
    if let Some(place) = &entry.host {
        let keys: Result<Vec<PublicKey>, _> =
            place.host_keys.iter().map(|key| PublicKey::parse(key)).collect();
        let host_keys = keys.map_err(|error| text(&error))?;
        if place.port == 0 || host_keys.is_empty() {
            return Err("it has no port or no host key".to_owned());
        }
        let host = Host {
            alias: Alias::new(&place.alias).map_err(|error| text(&error))?,
            tag,
            name: entry.name.clone(),
            host_name: HostName::new(&place.addr).ok_or("its address is none")?,
            port: place.port,
            user: UserName::new(&place.user).map_err(|error| text(&error))?,
            host_keys,
            // Not the one that opened it there: that one stays on its machine.
            identity: here.key().map_err(|error| text(&error))?.path,
        };
        wishes.push((entry, Wish::Out(Box::new(host))));
    }
    Ok(wishes)
}

//! `kin devices`: the devices of this one's groups.

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use node::api::{DeviceLine, Request};

use crate::{
    answers::{self, Asker, named},
    check,
    device::Device,
    error::CommandError,
    escape::escape,
    output::{screen::Screen, table::table},
    when,
};

const AFTER_HELP: &str = "\
Examples:
  kin devices                  all devices of all groups
  kin devices remove phone     it loses access on every device that hears of it
  kin devices rename desk      another name for this device
  kin devices role tv reader   it may read from now on, and change nothing

A device is meant by its name or by the beginning of its id. What a device has already, it keeps when it \
is removed: a removal takes access away, not files.";

/// List, remove and rename the devices of this one's groups
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    list: List,

    /// Print one JSON object a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List them; this is what kin devices does by itself
    List(List),
    /// Take a device out of the group, for everybody and for good
    ///
    /// Asks first. What the device has already, it keeps: a removal takes access away, not files.
    Remove {
        /// Its name, or the beginning of its id
        #[arg(value_name = "DEVICE")]
        device: String,
        /// Ask nothing
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        of: Group,
    },
    /// Give a device another name: this one, unless another is named
    Rename {
        /// The device, if it is not this one, and its new name
        #[arg(value_name = "[DEVICE] NAME", num_args = 1..=2, required = true)]
        names: Vec<String>,
    },
    /// Give this device a new key, in all its groups
    ///
    /// For a key that is old. One that was stolen does not get better by it: remove the device on another
    /// one instead, and pair it again.
    Rotate,
    /// Say what a device may do: admin, writer, reader or keeper
    Role {
        /// Its name, or the beginning of its id
        #[arg(value_name = "DEVICE")]
        device: String,
        /// admin, writer, reader or keeper
        #[arg(value_name = "ROLE", value_parser = crate::check::ROLES)]
        role: String,
        #[command(flatten)]
        of: Group,
    },
}

#[derive(Args, Debug, Default)]
struct List {
    /// Only the devices of this group
    #[arg(long = "group", value_name = "GROUP", id = "list-group")]
    group: Option<String>,
}

#[derive(Args, Debug)]
struct Group {
    /// In which group: name or the beginning of its id [default: the one in use]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

/// Runs it to its end.
pub(crate) async fn run(screen: &Screen, args: DevicesArgs) -> Result<(), CommandError> {
    let json = args.json;
    let action = args.action.unwrap_or(Action::List(args.list));
    if let Action::Rename { names } = &action {
        check::name("NAME", names.last().map_or("", String::as_str))?;
    }
    let device = Device::reach().await?;
    match action {
        Action::List(List { group }) => {
            let found: Vec<DeviceLine> = device.ask(Request::Devices { group }).await?;
            list(screen, json, &found)
        }
        Action::Remove { device: which, yes, of } => {
            let which = if yes { which } else { agreed(screen, &device, which, &of).await? };
            let removed: DeviceLine =
                device.ask(Request::RemoveDevice { device: which, group: of.group }).await?;
            // Its keys are gone by now; who is in already stays in.
            let request = Request::SshSessions { device: removed.device.clone() };
            let sessions: Vec<String> = device.ask(request).await?;
            let said = format!(
                "{} is removed from {}. Devices that are linked know it now, others when they are back. \
                 What it has already, it keeps.",
                named(&removed.name, &removed.device),
                escape(&removed.group)
            );
            answers::done(screen, json, &removed, &said)?;
            if !sessions.is_empty() && json {
                answers::json(&[
                    serde_json::json!({ "event": "ssh_sessions", "sessions": sessions }),
                ])?;
            } else if !sessions.is_empty() {
                screen.line(&format!(
                    "SSH sessions from where it was last seen are still open, and are not ended by this: {}. \
                     who lists them; kill ends one.",
                    sessions.iter().map(|one| escape(one)).collect::<Vec<_>>().join(", ")
                ));
            }
            device.close().await;
            Ok(())
        }
        Action::Rename { mut names } => {
            let name = names.pop().unwrap_or_default();
            let renamed: DeviceLine =
                device.ask(Request::RenameDevice { device: names.pop(), name }).await?;
            let said = format!("It is {} now.", named(&renamed.name, &renamed.device));
            answers::done(screen, json, &renamed, &said)
        }
        Action::Rotate => {
            let rotated: DeviceLine = device.ask(Request::RotateKey).await?;
            let said = format!("This device has a new key and id: {}", escape(&rotated.device));
            answers::done(screen, json, &rotated, &said)
        }
        Action::Role { device: which, role, of } => {
            let request = Request::SetRole { device: which, role, group: of.group };
            let changed: DeviceLine = device.ask(request).await?;
            let said = format!(
                "{} is {} of {} now.",
                named(&changed.name, &changed.device),
                escape(&changed.role),
                escape(&changed.group)
            );
            answers::done(screen, json, &changed, &said)
        }
    }
}

/// Says what a removal does and what it cannot do, and asks. What is removed then is the device that was named here.
async fn agreed(
    screen: &Screen,
    device: &Device,
    which: String,
    of: &Group,
) -> Result<String, CommandError> {
    let found: Vec<DeviceLine> = device.ask(Request::Devices { group: of.group.clone() }).await?;
    let begins = |line: &DeviceLine| which.len() >= 7 && line.device.starts_with(&which);
    let mut meant: Vec<&DeviceLine> =
        found.iter().filter(|line| line.name == which || begins(line)).collect();
    // Of several groups the one in use is meant.
    let group = match *meant.as_slice() {
        [one] => format!("the group {}", escape(&one.group)),
        _ => "the group".to_owned(),
    };
    meant.dedup_by(|one, other| one.device == other.device);
    let (shown, id) = match *meant.as_slice() {
        [one] => (named(&one.name, &one.device), one.device.clone()),
        // Then the device says what is wrong with it.
        _ => (escape(&which), which),
    };
    let before = format!(
        "Removing {shown} takes it out of {group}, for everybody and for good: each device that hears of it ends its \
         links and takes nothing from it any more, and its SSH keys go.\nIt does not reach into that device: what is \
         there already, stays there. It comes back only if an admin lets it in again."
    );
    match Asker::new(screen).agreed(&before, "Remove it?").await {
        true => Ok(id),
        false => Err(answers::not_agreed("nothing was removed")),
    }
}

fn list(screen: &Screen, json: bool, devices: &[DeviceLine]) -> Result<(), CommandError> {
    if json {
        return answers::json(devices);
    }
    if devices.is_empty() {
        screen.line("This device is in no group yet. kin pair, on it and on another, makes one.");
    }
    answers::lines(&rows(devices, &TimeZone::system()))
}

/// Devices for a person.
pub(crate) fn rows(devices: &[DeviceLine], zone: &TimeZone) -> Vec<String> {
    let groups: std::collections::BTreeSet<&str> =
        devices.iter().map(|device| device.group.as_str()).collect();
    let row = |device: &DeviceLine| {
        let mut row = vec![
            escape(&device.name),
            crate::output::words::short(&escape(&device.device)),
            escape(&device.role),
        ];
        if groups.len() > 1 {
            row.push(escape(&device.group));
        }
        row.push(presence(device, zone));
        row
    };
    table(&devices.iter().map(row).collect::<Vec<_>>())
}

fn presence(device: &DeviceLine, zone: &TimeZone) -> String {
    match device.last_seen {
        _ if device.me => "this device".to_owned(),
        _ if device.online => "online".to_owned(),
        Some(seconds) => {
            let millis = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
            format!("last seen {}", when::show(millis, zone))
        }
        None => "never seen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, group: &str) -> DeviceLine {
        DeviceLine {
            device: "kd1qqqqqqqqqqqqq".into(),
            name: name.into(),
            role: "admin".into(),
            group: group.into(),
            online: false,
            last_seen: None,
            me: false,
        }
    }

    #[test]
    fn devices_are_shown_aligned_and_escaped_with_the_group_if_there_are_several() {
        let mut devices = vec![
            DeviceLine { me: true, online: true, ..device("laptop", "home") },
            DeviceLine { online: true, ..device("na\x1bs", "home") },
            DeviceLine { last_seen: Some(1_795_168_800), ..device("tv", "home") },
            device("new", "home"),
        ];
        assert_eq!(
            rows(&devices, &TimeZone::UTC),
            [
                "laptop     kd1qqqqqqqqq…  admin  this device",
                "na\\u{1b}s  kd1qqqqqqqqq…  admin  online",
                "tv         kd1qqqqqqqqq…  admin  last seen 2026-11-20 10:00:00 +00:00",
                "new        kd1qqqqqqqqq…  admin  never seen",
            ]
        );
        devices.truncate(1);
        devices.push(device("laptop", "work\n"));
        let shown = rows(&devices, &TimeZone::UTC);
        assert_eq!(shown[1], "laptop  kd1qqqqqqqqq…  admin  work\\n  never seen");
    }
}

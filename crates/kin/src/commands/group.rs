//! `kin group` and `kin leave`: the groups that this device is in.

use clap::{Args, Subcommand};
use node::api::{DeviceLine, GroupLine, InvitationLine, Request};

use crate::{
    answers::{self, Asker, named},
    check,
    device::Device,
    error::{CommandError, Exit},
    escape::escape,
    output::{screen::Screen, table::table, terminal::show_warning},
};

const AFTER_HELP: &str = "\
Examples:
  kin group list             the groups; * is the one that commands mean
  kin group create club      a group of this device alone; kin pair lets others in
  kin group use club         commands mean this one from now on
  kin group rescue           if no admin is left: the same folders in a new group
  kin group follow nas       go along into the new group that nas made so

A device may be in several groups; a folder belongs to one.";

/// List, create, choose and leave groups
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    action: Option<Action>,

    /// Print one JSON object a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List them; this is what kin group does by itself
    List,
    /// Make a group of this device alone
    Create {
        /// What this device calls it
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Make a group the one that commands mean
    Use {
        /// Its name, or the beginning of its id
        #[arg(value_name = "GROUP")]
        group: String,
    },
    /// Leave a group
    Leave(Leave),
    /// Make a new group of an old one's folders and the devices that you pick
    ///
    /// For a group in which no admin is left, since devices removed each other. What is in the folders
    /// stays. Each device that you pick is asked about on the device itself.
    Rescue {
        /// The old group [default: the one in use]
        #[arg(value_name = "GROUP")]
        group: Option<String>,
        /// A device that comes along; may be given many times [default: all members]
        #[arg(long = "device", value_name = "DEVICE")]
        devices: Vec<String>,
    },
    /// Go along into the group that another device made by kin group rescue
    ///
    /// The folders that this device keeps of the old group follow into the new one.
    Follow {
        /// The device that made it: its name, or the beginning of its id
        #[arg(value_name = "DEVICE")]
        device: String,
        /// Do not ask; only together with --expect-device
        #[arg(long)]
        yes: bool,
        /// The id that the device must have
        #[arg(long, value_name = "ID")]
        expect_device: Option<String>,
    },
}

#[derive(Args, Debug)]
struct Leave {
    /// Its name, or the beginning of its id [default: the one in use]
    #[arg(value_name = "GROUP")]
    group: Option<String>,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Leave although nobody else is an admin
    #[arg(long)]
    last_admin: bool,
}

/// Leave a group: kin group leave in short
///
/// Files stay where they are; folders of the group are kept in step here no more.
#[derive(Args, Debug)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    leave: Leave,

    /// Print the group as a JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs `kin group` to its end.
pub(crate) async fn run(screen: &Screen, args: GroupArgs) -> Result<(), CommandError> {
    let json = args.json;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(screen, json).await,
        Action::Create { name } => {
            if name.trim().is_empty() {
                return Err(CommandError::usage("name", "NAME: a group needs a name"));
            }
            check::name("NAME", &name)?;
            let group: GroupLine =
                Device::reach().await?.ask(Request::CreateGroup { name }).await?;
            let said = format!(
                "{} is a group of this device alone. kin pair --group {} lets others in.",
                escape(&group.name),
                escape(&group.name)
            );
            answers::done(screen, json, &group, &said)
        }
        Action::Use { group } => {
            let group: GroupLine = Device::reach().await?.ask(Request::UseGroup { group }).await?;
            let said = format!("Commands mean {} now.", escape(&group.name));
            answers::done(screen, json, &group, &said)
        }
        Action::Leave(which) => leave(screen, which, json).await,
        Action::Rescue { group, devices } => rescue(screen, group, devices, json).await,
        Action::Follow { device, yes, expect_device } => {
            follow(screen, device, yes, expect_device.as_deref(), json).await
        }
    }
}

/// Runs `kin leave` to its end.
pub(crate) async fn run_leave(screen: &Screen, args: LeaveArgs) -> Result<(), CommandError> {
    leave(screen, args.leave, args.json).await
}

/// The group that is meant, known before anything is asked about it.
async fn meant(device: &Device, named: Option<&str>) -> Result<GroupLine, CommandError> {
    let groups: Vec<GroupLine> = device.ask(Request::Groups).await?;
    let usage =
        |message: &str, hint: &str| Err(CommandError::usage("no_group", message).hint(hint));
    let found: Vec<GroupLine> = match named {
        None if groups.is_empty() => {
            return usage("this device belongs to no group", "pair it with another one: kin pair");
        }
        None => groups.into_iter().filter(|one| one.used).collect(),
        Some(text) => {
            let (named, begun): (Vec<_>, Vec<_>) =
                groups.into_iter().partition(|one| one.name == text);
            let begins = |one: &GroupLine| text.len() >= 4 && one.group.starts_with(text);
            if named.is_empty() { begun.into_iter().filter(begins).collect() } else { named }
        }
    };
    match <[GroupLine; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(_) if named.is_none() => usage(
            "this device belongs to several groups",
            "say which with its name: kin group list",
        ),
        Err(_) => {
            let message = format!("no single group here is called {}", named.unwrap_or_default());
            usage(&message, "kin group list shows them")
        }
    }
}

/// True if others belong to a group and none of them is linked.
async fn is_unheard(device: &Device, group: &GroupLine) -> Result<bool, CommandError> {
    let request = Request::Devices { group: Some(group.group.clone()) };
    let devices: Vec<DeviceLine> = device.ask(request).await?;
    let mut others = devices.iter().filter(|one| !one.me).peekable();
    Ok(others.peek().is_some() && others.all(|one| !one.online))
}

async fn leave(screen: &Screen, which: Leave, json: bool) -> Result<(), CommandError> {
    let Leave { group, yes, mut last_admin } = which;
    let device = Device::reach().await?;
    let meant = meant(&device, group.as_deref()).await?;
    let before = format!(
        "Leaving {}: its folders are kept in step here no more, and all files stay where they are. \
         To come back, this device is paired anew.",
        escape(&meant.name)
    );
    let mut asker = Asker::new(screen);
    if meant.role != "removed" && is_unheard(&device, &meant).await? {
        show_warning(
            screen,
            "no other device of the group is linked: unless a relay brings them word, they go on listing this one, and \
             do not get what was changed here since",
        );
    }
    if !yes && !asker.agreed(&before, "Go on?").await {
        return Err(answers::not_agreed("this device stays in the group"));
    }
    let left = loop {
        let group = Some(meant.group.clone());
        let request = Request::LeaveGroup { group, last_admin };
        match device.ask::<GroupLine>(request).await {
            Ok(left) => break left,
            Err(error) if error.kind == "last_admin" && !last_admin && !yes => {
                show_warning(screen, &error.message);
                let question = "Leave it without an admin?";
                if !asker.agreed("", question).await {
                    return Err(answers::not_said_yes("this device stays in the group"));
                }
                last_admin = true;
            }
            Err(error) if error.kind == "last_admin" => {
                return Err(error.hint("--last-admin leaves it all the same"));
            }
            Err(error) => return Err(error),
        }
    };
    // What it had of SSH with the others is taken away by then.
    device.close().await;
    answers::done(screen, json, &left, &format!("This device has left {}.", escape(&left.name)))
}

async fn rescue(
    screen: &Screen,
    group: Option<String>,
    devices: Vec<String>,
    json: bool,
) -> Result<(), CommandError> {
    let who = if devices.is_empty() {
        "all its devices".to_owned()
    } else {
        devices.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ")
    };
    let device = Device::reach().await?;
    let meant = meant(&device, group.as_deref()).await?;
    let before = format!(
        "A new group is made with the folders of {}, this device as admin, and {who}. \
         A device whose key was stolen must not come along.",
        escape(&meant.name)
    );
    // Who comes along is a question of trust, which --yes does not answer (rule T6).
    if !Asker::new(screen).agreed(&before, "Go on?").await {
        return Err(answers::not_said_yes("nothing was changed"));
    }
    let request = Request::RescueGroup { group: Some(meant.group), devices };
    let rescued: GroupLine = device.ask(request).await?;
    let said = format!("The new group is {}.", escape(&rescued.name));
    answers::done(screen, json, &rescued, &said)
}

async fn follow(
    screen: &Screen,
    name: String,
    yes: bool,
    expect: Option<&str>,
    json: bool,
) -> Result<(), CommandError> {
    let device = Device::reach().await?;
    let all: Vec<InvitationLine> = device.ask(Request::Invitations).await?;
    let meant = |one: &&InvitationLine| {
        one.name == name || (name.len() >= 7 && one.device.starts_with(&name))
    };
    let mut found = all.iter().filter(meant);
    let (Some(one), None) = (found.next(), found.next()) else {
        let message = format!("{name} is no single device that asks this one to go along");
        return Err(CommandError::usage("no_device", &message)
            .hint("it asks when it is linked: kin status shows who does"));
    };
    if expect.is_some_and(|expected| expected != one.device) {
        return Err(CommandError::new(
            Exit::Refused,
            "other_device",
            &format!("{} is {}, which is another device than expected", one.name, one.device),
        ));
    }
    let folders = match one.folders.len() {
        0 => "This device keeps none of its folders.".to_owned(),
        _ => {
            let names: Vec<String> = one.folders.iter().map(|name| escape(name)).collect();
            format!("Its folders here go along: {}.", names.join(", "))
        }
    };
    let before = format!(
        "{} asks this device to go along into its new group, as {}. {folders} Ask whoever uses that device \
         whether it is meant: whom it picked there may do what its role says, and who is not picked is out.",
        named(&one.name, &one.device),
        escape(&one.role)
    );
    // Whom to trust is a question that --yes alone does not answer (rule T6).
    let agreed = (yes && expect.is_some()) || Asker::new(screen).agreed(&before, "Go along?").await;
    if !agreed {
        return Err(answers::not_agreed("this device stays where it is"));
    }
    let followed: InvitationLine =
        device.ask(Request::FollowGroup { device: one.device.clone() }).await?;
    let said = format!(
        "This device goes along as soon as it is linked with {}: kin group list shows the new group then.",
        named(&followed.name, &followed.device)
    );
    answers::done(screen, json, &followed, &said)
}

async fn list(screen: &Screen, json: bool) -> Result<(), CommandError> {
    let groups: Vec<GroupLine> = Device::reach().await?.ask(Request::Groups).await?;
    if json {
        return answers::json(&groups);
    }
    if groups.is_empty() {
        screen.line("This device is in no group yet. kin pair, on it and on another, makes one.");
    }
    answers::lines(&rows(&groups))?;
    for group in &groups {
        for warning in &group.warnings {
            show_warning(screen, &format!("{}: {}", escape(&group.name), escape(warning)));
        }
    }
    Ok(())
}

/// Groups for a person.
pub(crate) fn rows(groups: &[GroupLine]) -> Vec<String> {
    let count = |count: u64, what: &str| {
        if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
    };
    let row = |group: &GroupLine| {
        vec![
            if group.used { "*".to_owned() } else { String::new() },
            escape(&group.name),
            escape(&group.group).chars().take(8).collect(),
            escape(&group.role),
            count(group.devices, "device"),
            count(group.folders, "folder"),
        ]
    };
    table(&groups.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_shown_with_the_one_in_use() {
        let group = |name: &str, used, devices| GroupLine {
            group: "0123456789abcdef".into(),
            name: name.into(),
            used,
            role: "admin".into(),
            devices,
            folders: 2,
            warnings: vec![],
        };
        assert_eq!(
            rows(&[group("home", true, 3), group("cl\x1bub", false, 1)]),
            [
                "*  home        01234567  admin  3 devices  2 folders",
                "   cl\\u{1b}ub  01234567  admin  1 device   2 folders",
            ]
        );
    }
}

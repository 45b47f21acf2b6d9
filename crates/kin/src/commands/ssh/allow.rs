//! `kin ssh allow`: SSH between devices of a group, agreed on now (rule T23).

use clap::Args;
use node::api::{DeviceLine, Request, SshAllow, SshReply};
use serde::Serialize;
use ssh::Cidr;

use super::common;
use crate::{
    answers::{self, Asker, named},
    device::Device,
    error::CommandError,
    escape::escape,
    output::screen::Screen,
    ssh_files,
};

/// Let a device of the group log in here, and be able to log in there
///
/// Each direction is asked about. Nothing more is needed on this device; the other one's person says the same
/// there, with kin ssh allow or when pairing. It is installed as soon as both devices are linked.
#[derive(Args, Debug)]
pub(crate) struct AllowArgs {
    /// Its name, or the beginning of its id
    #[arg(value_name = "DEVICE", required_unless_present = "all", conflicts_with = "all")]
    device: Option<String>,

    /// All that are admins of the group now, but for those who came by a code; later ones are not meant
    #[arg(long)]
    all: bool,

    /// In which group, with --all [default: the one in use]
    #[arg(long, value_name = "GROUP", requires = "all")]
    group: Option<String>,

    /// Ask only whether it may log in here
    #[arg(long, conflicts_with = "only_out")]
    only_in: bool,

    /// Ask only whether this device shall be able to log in there
    #[arg(long, conflicts_with_all = ["expires", "from"])]
    only_out: bool,

    /// How long it may log in here: 30m, 24h, 7d [default: until it is taken back]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,

    /// From which network it may log in here; repeatable [default: any]
    #[arg(long, value_name = "CIDR")]
    from: Vec<Cidr>,

    /// Ask nothing; needs --expect-device for each device
    #[arg(long, requires = "expect_device", help_heading = "For scripts")]
    yes: bool,

    /// The device that --yes answers for; repeatable
    #[arg(long, value_name = "kd1…", requires = "yes", help_heading = "For scripts")]
    expect_device: Vec<String>,
}

/// The question, for a program that reads events.
#[derive(Serialize)]
struct Ask<'a> {
    event: &'static str,
    id: u32,
    about: &'static str,
    direction: &'a str,
    device: &'a str,
    name: &'a str,
}

/// Runs it to its end.
pub(super) async fn run(screen: &Screen, json: bool, args: AllowArgs) -> Result<(), CommandError> {
    let end = args.expires.as_deref().map(common::end).transpose()?;
    let device = Device::reach().await?;
    let done = allow(screen, json, &args, end, &device).await;
    device.close().await;
    done
}

async fn allow(
    screen: &Screen,
    json: bool,
    args: &AllowArgs,
    end: Option<i64>,
    device: &Device,
) -> Result<(), CommandError> {
    let meant = meant(args, device).await?;
    if meant.is_empty() {
        let said = "the group has no other admin who did not come by a code";
        return Err(
            CommandError::failed("no_device", said).hint("name the device: kin ssh allow NAME")
        );
    }
    let mut asker = Asker::new(screen);
    let mut asked = 0;
    let (mut agreed_in, mut agreed_out) = (None, None);
    if args.all {
        // One question for each direction, and everybody who is meant in front of it.
        let list: Vec<String> =
            meant.iter().map(|one| format!("  {}", named(&one.name, &one.device))).collect();
        screen.line("These devices are meant:");
        list.iter().for_each(|line| screen.line(line));
    }
    for (direction, agreed, skipped) in
        [("in", &mut agreed_in, args.only_out), ("out", &mut agreed_out, args.only_in)]
    {
        if skipped {
            continue;
        }
        let yes = match args.yes {
            true => expected(args, &meant)?,
            false => {
                asked += 1;
                for one in meant.iter().filter(|_| json) {
                    let (about, id) = ("ssh", asked);
                    let (device, name) = (&one.device, &one.name);
                    answers::json(&[Ask { event: "ask", id, about, direction, device, name }])?;
                }
                asker.agreed("", &question(direction, args, &meant)).await
            }
        };
        *agreed = Some(yes);
    }
    if agreed_in != Some(true) && agreed_out != Some(true) {
        return Err(answers::not_agreed("nothing was changed"));
    }
    for one in &meant {
        let request = Request::SshAllow(SshAllow {
            device: one.device.clone(),
            // A no leaves what was said before: taking back is kin ssh unpair.
            into_here: agreed_in.filter(|yes| *yes),
            from_here: agreed_out.filter(|yes| *yes),
            expires: end,
            networks: args.from.iter().map(ToString::to_string).collect(),
        });
        let reply: SshReply = device.ask(request).await?;
        answers::done(screen, json, &reply, &say(&reply))?;
    }
    Ok(())
}

async fn meant(args: &AllowArgs, device: &Device) -> Result<Vec<DeviceLine>, CommandError> {
    let Some(text) = &args.device else {
        return device.ask(Request::SshCandidates { group: args.group.clone() }).await;
    };
    let all: Vec<DeviceLine> = device.ask(Request::Devices { group: None }).await?;
    let fits = |one: &&DeviceLine| {
        !one.me && (one.name == *text || text.len() >= 7 && one.device.starts_with(text.as_str()))
    };
    let mut found: Vec<DeviceLine> = all.iter().filter(fits).cloned().collect();
    // Two groups may both have it.
    found.sort_by(|a, b| a.device.cmp(&b.device));
    found.dedup_by(|a, b| a.device == b.device);
    match found.len() {
        1 => Ok(found),
        0 => Err(CommandError::usage(
            "no_device",
            &format!("no group of this device has {}", escape(text)),
        )
        .hint("kin devices lists those that it knows; kin ssh pair is for others")),
        _ => Err(CommandError::usage(
            "ambiguous",
            &format!("{} means several devices", escape(text)),
        )
        .hint("give the beginning of its id: kin devices")),
    }
}

/// Rule T6: a yes that was given beforehand counts for the devices that were named with it.
fn expected(args: &AllowArgs, meant: &[DeviceLine]) -> Result<bool, CommandError> {
    match meant.iter().find(|one| !args.expect_device.contains(&one.device)) {
        None => Ok(true),
        Some(other) => {
            let said = format!(
                "{} is not among the devices that are expected",
                named(&other.name, &other.device)
            );
            Err(CommandError::failed("not_expected", &said)
                .hint("kin devices --json prints whole ids"))
        }
    }
}

fn question(direction: &str, args: &AllowArgs, meant: &[DeviceLine]) -> String {
    let who = match meant {
        [one] => named(&one.name, &one.device),
        all => format!("these {} devices", all.len()),
    };
    let limits = [
        args.expires.as_ref().map(|span| format!(" for {}", escape(span))),
        (!args.from.is_empty()).then(|| {
            let from: Vec<String> = args.from.iter().map(ToString::to_string).collect();
            format!(" from {}", from.join(", "))
        }),
    ];
    let limits: String = limits.into_iter().flatten().collect();
    match direction {
        "in" => format!("May {who} log in to this device by SSH{limits}?"),
        _ => {
            let alias = match meant {
                [one] => ssh_files::alias_of(&one.device, &one.name),
                _ => None,
            };
            let alias = alias.map(|alias| format!(", as ssh {alias}")).unwrap_or_default();
            format!("Shall this device be able to log in to {who} by SSH{alias}?")
        }
    }
}

fn say(reply: &SshReply) -> String {
    let name = named(&reply.name, &reply.device);
    let mut said = Vec::new();
    match (reply.allowed, reply.installed) {
        (true, true) => said.push(format!("{name} may log in here: its key is installed.")),
        (true, false) if reply.linked => {
            said.push(format!("{name} may log in here; its person has not said there that it wants to: kin ssh allow."));
        }
        (true, false) => said
            .push(format!("{name} may log in here, as soon as both devices are linked: kin up.")),
        (false, _) => {}
    }
    match (reply.wanted, &reply.alias) {
        (true, Some(alias)) => {
            said.push(format!("ssh {} goes there and asks nothing.", escape(alias)));
        }
        (true, None) if reply.linked => {
            said.push(format!(
                "Nobody on {name} has let this device in yet: kin ssh allow, there."
            ));
        }
        (true, None) => said.push(
            "This device can log in there as soon as both are linked, and its person agrees."
                .to_owned(),
        ),
        (false, _) => {}
    }
    said.join(" ")
}

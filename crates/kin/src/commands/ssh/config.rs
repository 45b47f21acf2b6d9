//! `kin ssh config`: settings of `kin ssh`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ssh::{Cidr, Here, Settings};

use crate::{answers, error::CommandError, output::screen::Screen, ssh_files};

/// Show and change the settings of kin ssh
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show them; this is what kin ssh config does by itself
    List,
    /// Look through a network in each scan, where mDNS does not reach
    AddSubnet {
        /// As 10.0.2.0/24
        #[arg(value_name = "CIDR")]
        subnet: Cidr,
    },
    /// Look through it no more
    RemoveSubnet {
        /// As 10.0.2.0/24
        #[arg(value_name = "CIDR")]
        subnet: Cidr,
    },
    /// Use a key of yours instead of one that kin makes
    SetDefaultKey {
        /// The private key; its .pub must be beside it
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Use keys that kin makes again
    UnsetDefaultKey,
    /// Where others reach this machine's sshd, if not where its configuration says
    SetSshdPort {
        /// The port
        #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
    /// Where sshd's configuration says, again
    UnsetSshdPort,
    /// Read sshd's port and host keys from another configuration
    SetSshdConfig {
        /// Normally /etc/ssh/sshd_config
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Read /etc/ssh/sshd_config again
    UnsetSshdConfig,
}

/// Runs it to its end.
pub(super) fn run(screen: &Screen, json: bool, args: ConfigArgs) -> Result<(), CommandError> {
    let mut here = ssh_files::open()?;
    let said = match args.action.unwrap_or(Action::List) {
        Action::List => return show(json, &here.settings),
        Action::AddSubnet { subnet } => {
            let text = subnet.to_string();
            if !here.settings.subnets.contains(&text) {
                if here.settings.subnets.len() == 64 {
                    return Err(CommandError::usage("subnet", "there are 64 networks already"));
                }
                here.settings.subnets.push(text);
            }
            format!("kin ssh scan looks through {subnet}, too.")
        }
        Action::RemoveSubnet { subnet } => {
            let text = subnet.to_string();
            if !here.settings.subnets.contains(&text) {
                return Err(CommandError::usage(
                    "subnet",
                    &format!("{subnet} is not among the networks"),
                )
                .hint("kin ssh config lists them"));
            }
            here.settings.subnets.retain(|one| *one != text);
            format!("kin ssh scan does not look through {subnet} any more.")
        }
        Action::SetDefaultKey { path } => {
            let key = here.home.given_key(&path)?;
            let said = format!(
                "{} is used from now on. Devices that are paired already are reached as before; kin ssh rotate changes that.",
                key.path.display()
            );
            here.settings.default_key = Some(key.path);
            said
        }
        Action::UnsetDefaultKey => {
            here.settings.default_key = None;
            "Keys that kin makes are used from now on.".to_owned()
        }
        Action::SetSshdPort { port } => {
            here.settings.sshd_port = Some(port);
            format!("Others are told port {port}.")
        }
        Action::UnsetSshdPort => {
            here.settings.sshd_port = None;
            "Others are told the port in sshd's configuration.".to_owned()
        }
        Action::SetSshdConfig { path } => {
            let path = std::path::absolute(&path).unwrap_or(path);
            if !path.is_file() {
                return Err(CommandError::usage(
                    "sshd_config",
                    &format!("there is no file {}", path.display()),
                ));
            }
            let said = format!("{} is read.", path.display());
            here.settings.sshd_config = Some(path);
            said
        }
        Action::UnsetSshdConfig => {
            here.settings.sshd_config = None;
            "/etc/ssh/sshd_config is read.".to_owned()
        }
    };
    here.save()?;
    done(screen, json, &here, &said)
}

fn done(screen: &Screen, json: bool, here: &Here, said: &str) -> Result<(), CommandError> {
    answers::done(screen, json, &here.settings, said)
}

fn show(json: bool, settings: &Settings) -> Result<(), CommandError> {
    if json {
        return answers::json(std::slice::from_ref(settings));
    }
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let subnets = match settings.subnets.as_slice() {
        [] => "none".to_owned(),
        subnets => subnets.join(" "),
    };
    let key = path(&settings.default_key).unwrap_or_else(|| "made by kin".to_owned());
    let port =
        settings.sshd_port.map_or("as its configuration says".to_owned(), |port| port.to_string());
    let config = path(&settings.sshd_config).unwrap_or_else(|| "/etc/ssh/sshd_config".to_owned());
    answers::lines(&crate::output::table::table(&[
        vec!["networks to scan".to_owned(), subnets],
        vec!["key".to_owned(), key],
        vec!["sshd's port".to_owned(), port],
        vec!["sshd's configuration".to_owned(), config],
    ]))
}

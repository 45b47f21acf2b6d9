//! `kin ssh update-ip`: a device has moved to another address.

use clap::Args;
use ssh::{Host, HostName, UserName};

use super::hosts::HostLine;
use crate::{answers, error::CommandError, escape::escape, output::screen::Screen, ssh_files};

/// Say where a device is now; its keys stay pinned
#[derive(Args, Debug)]
pub(crate) struct UpdateIpArgs {
    /// Its name for ssh, its name, or the beginning of its id
    #[arg(value_name = "NAME")]
    name: String,

    /// Its address, or a name that stands for one
    #[arg(value_name = "ADDRESS")]
    addr: String,

    /// The port of its sshd [default: as it is]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ssh_port: Option<u16>,
}

/// Changes it.
pub(super) fn run(screen: &Screen, json: bool, args: &UpdateIpArgs) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    let found = ssh_files::find(&here.home, &args.name)?;
    let bad = |what: &str| CommandError::usage("address", what);
    let host_name = HostName::new(&args.addr).ok_or_else(|| {
        bad(&format!("{} is neither an address nor a host name", escape(&args.addr)))
    })?;
    let Some(old) = found.host else {
        return Err(CommandError::usage(
            "unknown_host",
            &format!("{} is not reached from here", escape(&found.name)),
        ));
    };
    let host = Host {
        alias: old.alias,
        tag: found.tag.clone(),
        name: found.name,
        host_name,
        port: args.ssh_port.unwrap_or(old.port),
        user: UserName::new(&old.user).map_err(|error| bad(&error.to_string()))?,
        host_keys: old.host_keys,
        identity: old.identity,
    };
    here.home.reach(&host)?;
    let now = ssh_files::find(&here.home, host.alias.as_str())?;
    let said = format!("ssh {} goes to {} port {} now.", host.alias, host.host_name, host.port);
    answers::done(screen, json, &HostLine::new(&now), &said)
}

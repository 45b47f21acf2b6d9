//! `kin ssh unpair`: takes away what was installed for a device, and nothing else.

use clap::Args;
use node::api::Request;
use serde::Serialize;

use crate::{
    answers,
    device::{self, Device},
    error::CommandError,
    escape::escape,
    output::screen::Screen,
    ssh_files,
};

/// Take away what was installed for a device, in both directions
///
/// Its line in authorized_keys goes, its pinned host keys and its name for ssh. Keys stay, and so does what the
/// other device has installed for this one: it is told by kin ssh unpair there.
#[derive(Args, Debug)]
pub(crate) struct UnpairArgs {
    /// Its name for ssh, its name, or the beginning of its id
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Serialize)]
struct Unpaired {
    event: &'static str,
    name: String,
    device: String,
    /// True if its key opens this account still, by a line that is not ours.
    still_allowed: bool,
}

/// Takes it away.
pub(super) async fn run(
    screen: &Screen,
    json: bool,
    args: &UnpairArgs,
) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    let found = ssh_files::find(&here.home, &args.name)?;
    if found.tag.to_device().is_some() && device::exists() {
        // What people agreed on is taken back first, or the next link would install it again.
        let device = Device::reach().await?;
        let request = Request::SshForget { device: found.tag.as_str().to_owned() };
        let done: Result<serde_json::Value, CommandError> = device.ask(request).await;
        device.close().await;
        done?;
    }
    here.home.forget(&found.tag)?;
    let mut still_allowed = false;
    for key in found.access.iter().filter_map(|access| access.key.as_ref()) {
        still_allowed |= here.home.allows_by_others(key)?;
    }
    let mut said =
        format!("{} may not come in any more, and ssh does not know it.", escape(&found.name));
    if still_allowed {
        said.push_str(" But its key is also in a line of ~/.ssh/authorized_keys that kin did not write, and stays there.");
    }
    let unpaired = Unpaired {
        event: "unpaired",
        name: found.name.clone(),
        device: found.tag.as_str().to_owned(),
        still_allowed,
    };
    answers::done(screen, json, &unpaired, &said)
}

//! `kin ssh rotate`: another user key, everywhere where the old one was.
//!
//! Each device is reached by the old key; the new one is put beside it there, on the same terms; a login by the
//! new key alone proves it; only then does the old one go. What was broken off is gone on with the next time.

use std::{io::Write as _, path::Path, process::Stdio};

use clap::Args;
use serde::Serialize;
use ssh::{Here, Host, HostName, Installed, KeyKind, OwnKey, Reached, UserName};

use super::test::{direct, explain, finish};
use crate::{answers, error::CommandError, escape::escape, output::screen::Screen, ssh_files};

/// Gives up connecting after this many seconds.
const TIMEOUT: u64 = 10;

/// Makes a copy of each line of ours with the old key ($1), with the new one ($2, base64) in it. The copies go to
/// the top, so that no other byte of the file changes.
const ADD: &str = r#"set -eu
umask 077
export LC_ALL=C
f=$HOME/.ssh/authorized_keys
if [ -L "$f" ]; then f=$(readlink -f "$f"); fi
if grep -q -F -- " $2 " "$f"; then exit 0; fi
new=$(grep -v '^[[:space:]]*#' "$f" | grep -F -- " $1 " | grep -F ' kinfold:' | sed "s|[a-z0-9-]* $1 |$3 $2 |") || exit 9
[ -n "$new" ] || exit 9
t=$(mktemp "$f.kin-XXXXXX")
trap 'rm -f "$t" "$t.was"' EXIT
cp -p "$f" "$t"
cp "$f" "$t.was"
{ printf '%s\n' "$new"; cat "$t.was"; } > "$t"
sync "$t" 2>/dev/null || sync
cmp -s "$f" "$t.was" || exit 8
mv "$t" "$f"
"#;

/// Takes each line of ours with that key away.
const REMOVE: &str = r#"set -eu
umask 077
export LC_ALL=C
f=$HOME/.ssh/authorized_keys
if [ -L "$f" ]; then f=$(readlink -f "$f"); fi
while :; do
n=$(grep -n -F -- " $1 " "$f" | grep -F ' kinfold:' | grep -v '^[0-9]*:[[:space:]]*#' | head -n 1 | cut -d: -f1) || n=
[ -n "$n" ] || exit 0
t=$(mktemp "$f.kin-XXXXXX")
trap 'rm -f "$t" "$t.was"' EXIT
cp -p "$f" "$t"
cp "$f" "$t.was"
{ head -n $((n - 1)) "$t.was"; tail -n +$((n + 1)) "$t.was"; } > "$t"
sync "$t" 2>/dev/null || sync
cmp -s "$f" "$t.was" || exit 8
mv "$t" "$f"
rm -f "$t.was"
done
"#;

/// Make a new key, install it wherever the old one is, and remove the old one once the new one works
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// RSA of 4096 bits instead of Ed25519
    #[arg(long)]
    rsa: bool,
}

#[derive(Serialize)]
struct Rotated<'a> {
    event: &'static str,
    name: &'a str,
    /// Fingerprint of the new key.
    key: &'a str,
}

/// Runs it to its end.
pub(super) async fn run(
    screen: &Screen,
    json: bool,
    args: &RotateArgs,
) -> Result<(), CommandError> {
    let here = ssh_files::open()?;
    if let Some(path) = &here.settings.default_key {
        let said =
            format!("{} is a key of yours: kin makes no other one in its place", path.display());
        return Err(CommandError::usage("ssh_key", &said)
            .hint("kin ssh config unset-default-key, then kin ssh rotate"));
    }
    let kind = if args.rsa { KeyKind::Rsa } else { KeyKind::Ed25519 };
    let (new, todo) = plan(&here, kind)?;
    let mut left = Vec::new();
    for (one, host, old) in &todo {
        match turn(&here, one, host, old, &new).await {
            Ok(()) => {
                let alias = host.alias.as_str();
                let rotated =
                    Rotated { event: "rotated", name: alias, key: new.public.fingerprint() };
                answers::done(screen, json, &rotated, &format!("ssh {alias} uses the new key."))?;
            }
            Err(error) => {
                screen.line(&format!("{}: {}", host.alias, error.message));
                left.push(host.alias.to_string());
            }
        }
    }
    // A key that opens nothing any more goes.
    let used: Vec<_> =
        here.home.installed()?.into_iter().filter_map(|one| Some(one.host?.identity)).collect();
    for key in here.home.own_keys()? {
        let was_used = todo.iter().any(|(.., old)| old.path == key.path);
        if was_used && key.path != new.path && !used.contains(&key.path) {
            here.home.remove_key(&key.path)?;
            screen.line(&format!("{} opens nothing any more and is removed.", key.path.display()));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let said = format!("the old key is still in use for {}", left.join(", "));
    Err(CommandError::failed("not_rotated", &said)
        .hint("run kin ssh rotate again when they are there: it goes on with the same key"))
}

type Todo = (Installed, Reached, OwnKey);

/// The new key, and where another one of ours is in use. A rotation that was broken off is gone on with.
fn plan(here: &Here, kind: KeyKind) -> Result<(OwnKey, Vec<Todo>), CommandError> {
    let keys = here.home.own_keys()?;
    let mut hosts: Vec<Todo> = Vec::new();
    for one in here.home.installed()? {
        let Some(host) = one.host.clone() else { continue };
        let old = keys.iter().find(|key| key.path == host.identity).cloned();
        hosts.extend(old.map(|old| (one, host, old)));
    }
    if hosts.is_empty() {
        return Err(CommandError::failed("nothing", "no device is reached by a key that kin made")
            .hint("kin ssh hosts lists devices and their keys"));
    }
    let last = here.home.key(kind)?;
    let begun = last.filter(|last| {
        let (with, without): (Vec<&Todo>, Vec<&Todo>) =
            hosts.iter().partition(|(_, host, _)| host.identity == last.path);
        // One that is in use in some places and not in others, or that opens nothing yet.
        !without.is_empty()
            && (!with.is_empty()
                || hosts.iter().all(|(.., old)| old.public.kind() == last.public.kind()))
    });
    let new = match begun {
        Some(key) => key,
        None => here.home.new_key(kind, &here.comment())?,
    };
    hosts.retain(|(_, host, _)| host.identity != new.path);
    Ok((new, hosts))
}

async fn turn(
    here: &Here,
    one: &Installed,
    host: &Reached,
    old: &OwnKey,
    new: &OwnKey,
) -> Result<(), CommandError> {
    let alias = host.alias.as_str();
    // It may be there already: from a rotation that was broken off, or by way of the group.
    if prove(here, host, &new.path).await.is_err() {
        let kind = new.public.kind();
        let words = [old.public.base64(), new.public.base64(), kind];
        script(here, host, &old.path, ADD, &words).await?;
        prove(here, host, &new.path).await?;
    }
    // Until the old key is gone there, this device still counts as reached by it: what fails here is done again.
    script(here, host, &new.path, REMOVE, &[old.public.base64()]).await.map_err(|error| {
        CommandError::failed(
            "not_removed",
            &format!("{alias}: the new key works, the old one is still there: {}", error.message),
        )
    })?;
    let odd =
        |what: &str| CommandError::failed("ssh_file", &format!("kinfold_config: {what} is none"));
    here.home.reach(&Host {
        alias: host.alias.clone(),
        tag: one.tag.clone(),
        name: one.name.clone(),
        host_name: HostName::new(&host.host_name).ok_or_else(|| odd(&escape(&host.host_name)))?,
        port: host.port,
        user: UserName::new(&host.user).map_err(|_| odd(&escape(&host.user)))?,
        host_keys: host.host_keys.clone(),
        identity: new.path.clone(),
    })?;
    Ok(())
}

/// A login by this key alone.
async fn prove(here: &Here, host: &Reached, key: &Path) -> Result<(), CommandError> {
    let mut command = direct(&here.home, host, key, TIMEOUT);
    command.arg("true");
    let (done, said) = finish(command, TIMEOUT).await?;
    if done { Ok(()) } else { Err(explain(host.alias.as_str(), &said)) }
}

async fn script(
    here: &Here,
    host: &Reached,
    key: &Path,
    script: &'static str,
    words: &[&str],
) -> Result<(), CommandError> {
    let mut command = direct(&here.home, host, key, TIMEOUT);
    // Base64 and names of kinds: nothing that a shell reads.
    command.args(["sh", "-s", "--"]).args(words).stdin(Stdio::piped());
    let (done, said) = super::test::finish_with(command, TIMEOUT, move |mut stdin| {
        // If it does not read, its end says why.
        let _ = stdin.write_all(script.as_bytes());
    })
    .await?;
    if done {
        return Ok(());
    }
    let alias = host.alias.as_str();
    if said.is_empty() {
        return Err(CommandError::failed(
            "not_rotated",
            &format!(
                "{alias}: its authorized_keys has no line of ours with the old key, or was changed meanwhile"
            ),
        ));
    }
    Err(explain(alias, &said))
}

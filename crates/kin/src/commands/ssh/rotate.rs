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

/// What both scripts begin with: where the file is, and the lock that kin on that machine takes, too, on its directory. What
/// has no `flock` has no kin either, most likely; what was changed by others is seen either way.
const BEGIN: &str = r#"set -eu
umask 077
export LC_ALL=C
f=$HOME/.ssh/authorized_keys
if [ -L "$f" ]; then f=$(readlink -f "$f"); fi
if command -v flock >/dev/null 2>&1; then
exec 9<"${f%/*}"
while ! flock -n 9; do
[ "$4" -gt 0 ] || exit 7
set -- "$1" "$2" "$3" $(($4 - 1))
sleep 1
done
fi
t=
trap '[ -z "$t" ] || rm -f "$t" "$t.was" "$t.old"' EXIT
draft() {
t=$(mktemp "$f.kin-XXXXXX")
cp -p "$f" "$t"
cp "$f" "$t.was"
ln "$f" "$t.old" 2>/dev/null || cp -p "$f" "$t.old"
}
place() {
sync "$t" 2>/dev/null || sync
cmp -s "$f" "$t.was" || exit 8
mv "$t" "$f"
if ! cmp -s "$t.old" "$t.was"; then mv "$t.old" "$f"; exit 8; fi
rm -f "$t.was" "$t.old"
t=
}
"#;

/// Makes a copy of each line of ours with the old key ($1), with the new one ($2, base64; $3, its kind) in it. The copies
/// go to the top, so that no other byte of the file changes.
const ADD: &str = r#"
if grep -q -F -- " $2 " "$f"; then exit 0; fi
new=$(grep -v '^[[:space:]]*#' "$f" | grep -F -- " $1 " | grep -F ' kinfold:' | sed "s|[a-z0-9-]* $1 |$3 $2 |") || exit 9
[ -n "$new" ] || exit 9
draft
{ printf '%s\n' "$new"; cat "$t.was"; } > "$t"
place
"#;

/// Takes each line of ours with that key away.
const REMOVE: &str = r#"
while :; do
n=$(grep -n -F -- " $1 " "$f" | grep -F ' kinfold:' | grep -v '^[0-9]*:[[:space:]]*#' | head -n 1 | cut -d: -f1) || n=
[ -n "$n" ] || exit 0
draft
{ head -n $((n - 1)) "$t.was"; tail -n +$((n + 1)) "$t.was"; } > "$t"
place
done
"#;

/// How long a script waits for the lock, in seconds.
const WAIT: &str = "5";

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
    let mut here = ssh_files::open()?;
    if let Some(path) = &here.settings.default_key {
        let said =
            format!("{} is a key of yours: kin makes no other one in its place", path.display());
        return Err(CommandError::usage("ssh_key", &said)
            .hint("kin ssh config unset-default-key, then kin ssh rotate"));
    }
    let kind = if args.rsa { KeyKind::Rsa } else { KeyKind::Ed25519 };
    let (new, todo) = plan(&here, kind)?;
    // What is told other devices from now on, too.
    here.use_kind(kind)?;
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
        let words = [old.public.base64(), new.public.base64(), kind, WAIT];
        script(here, host, &old.path, ADD, &words).await?;
        prove(here, host, &new.path).await?;
    }
    // Until the old key is gone there, this device still counts as reached by it: what fails here is done again.
    script(here, host, &new.path, REMOVE, &[old.public.base64(), "-", "-", WAIT]).await.map_err(
        |error| {
            CommandError::failed(
                "not_removed",
                &format!(
                    "{alias}: the new key works, the old one is still there: {}",
                    error.message
                ),
            )
        },
    )?;
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
        let _ = stdin.write_all(BEGIN.as_bytes()).and_then(|()| stdin.write_all(script.as_bytes()));
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
                "{alias}: its authorized_keys has no line of ours with the old key, or others were changing it"
            ),
        ));
    }
    Err(explain(alias, &said))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests play another machine's user"
)]
mod tests {
    use std::{fs, path::PathBuf, process::Command};

    use rustix::fs::FlockOperation;
    use tempfile::TempDir;

    use super::*;

    const FILE: &str = "# remark\nssh-rsa AAAAother x\nfrom=\"10.0.0.0/8\" ssh-ed25519 AAAAold kinfold:kd1a me\n\
                        ssh-ed25519 AAAAold by.hand\nno end";
    const ADDED: &str = "from=\"10.0.0.0/8\" ssh-rsa AAAAnew kinfold:kd1a me\n";

    fn home() -> (TempDir, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join(".ssh")).unwrap();
        let file = top.path().join(".ssh/authorized_keys");
        fs::write(&file, FILE).unwrap();
        (top, file)
    }

    /// Plays a script as sshd would; its exit code, and what it left beside the file.
    fn play(top: &TempDir, script: &str, words: &[&str]) -> (Option<i32>, usize) {
        let script = format!("{BEGIN}{script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(words).env("HOME", top.path());
        let code = command.status().unwrap().code();
        (code, fs::read_dir(top.path().join(".ssh")).unwrap().count())
    }

    #[test]
    fn a_key_is_put_beside_the_old_one_on_its_terms_and_the_old_one_is_taken_away() {
        let (top, file) = home();
        let words = ["AAAAold", "AAAAnew", "ssh-rsa", "0"];
        for _ in 0..2 {
            assert_eq!(play(&top, ADD, &words), (Some(0), 1));
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{ADDED}{FILE}"));
        }
        for _ in 0..2 {
            assert_eq!(play(&top, REMOVE, &["AAAAold", "-", "-", "0"]), (Some(0), 1));
            let left =
                FILE.replace("from=\"10.0.0.0/8\" ssh-ed25519 AAAAold kinfold:kd1a me\n", "");
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{ADDED}{left}"));
        }
        assert_eq!(play(&top, ADD, &["AAAAnone", "AAAAmore", "ssh-rsa", "0"]), (Some(9), 1));
    }

    #[test]
    fn attack_17_what_kin_there_is_changing_is_not_changed_at_the_same_time() {
        let (top, file) = home();
        let locked = fs::File::open(top.path().join(".ssh")).unwrap();
        rustix::fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
        let words = ["AAAAold", "AAAAnew", "ssh-rsa", "0"];
        for script in [ADD, REMOVE] {
            assert_eq!(play(&top, script, &words), (Some(7), 1));
            assert_eq!(fs::read_to_string(&file).unwrap(), FILE);
        }
        drop(locked);
        assert_eq!(play(&top, ADD, &words), (Some(0), 1));
    }

    #[test]
    fn attack_17_what_others_write_meanwhile_stays() {
        let (top, file) = home();
        let words = ["AAAAold", "AAAAnew", "ssh-rsa", "0"];
        // Somebody writes after the copy was made, and in the last moment before it is placed.
        for (before, hook) in [
            ("place\n", "echo mine >> \"$f\"\nplace\n"),
            ("mv \"$t\"", "echo mine >> \"$f\"\nmv \"$t\""),
        ] {
            fs::write(&file, FILE).unwrap();
            let whole = format!("{BEGIN}{ADD}");
            let at =
                if before.starts_with("mv") { whole.find(before) } else { whole.rfind(before) };
            let (head, tail) = whole.split_at(at.unwrap());
            let script = format!("{head}{}", tail.replacen(before, hook, 1));
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh"]).args(words).env("HOME", top.path());
            assert_eq!(command.status().unwrap().code(), Some(8), "{before}");
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("{FILE}mine\n"), "{before}");
            assert_eq!(fs::read_dir(top.path().join(".ssh")).unwrap().count(), 1);
        }
    }
}

//! A user's `~/.ssh`: what is installed for which device, and changing that.

mod keys;

use std::path::{Path, PathBuf};

use tree::{Edited, UserDir, UserFileError};

use crate::{
    Access, Alias, AliasError, Allowed, Host, Local, PublicKey, SshError, Tag, UserName,
    hosts::{self, Block},
    judge::Judge,
    known,
    used::Places,
};

/// Largest file that is looked at.
const MAX_FILE: usize = tree::MAX_LINE_FILE;
const AUTHORIZED: &str = ".ssh/authorized_keys";
const KNOWN: &str = ".ssh/known_hosts";
const CONFIG: &str = ".ssh/config";
const OURS: &str = ".ssh/kinfold_config";
/// What an `Include` of ours ends with. Versions of ssh that know no remarks there take it for names of files,
/// which need not exist.
const INCLUDE_MARK: &str = " # kinfold: made by kin ssh";

/// How often a name is numbered until another one is looked for.
const MAX_NUMBER: u16 = 99;
/// Where ssh found a name that no text names.
const JUDGED: &str = "ssh's configuration (ssh -G)";

/// A user's home directory.
#[derive(Debug)]
pub struct Home {
    dir: UserDir,
    user: UserName,
    etc: PathBuf,
}

/// What is installed for a device, or for an alias.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed {
    /// Which device.
    pub tag: Tag,
    /// What it was called then.
    pub name: String,
    /// It may come in so.
    pub access: Vec<Allowed>,
    /// It is reached so.
    pub host: Option<Reached>,
}

/// How a device is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// `ssh ALIAS`.
    pub alias: Alias,
    /// Where it is.
    pub host_name: String,
    /// Where its sshd listens.
    pub port: u16,
    /// Its user.
    pub user: String,
    /// The private key that opens it.
    pub identity: PathBuf,
    /// Its host keys.
    pub host_keys: Vec<PublicKey>,
}

impl Home {
    /// The home of the user that this process is of, by the uid.
    ///
    /// # Errors
    /// If there is none.
    pub fn of_this_user() -> Result<Self, SshError> {
        let Local { user, home } = Local::find()?;
        Self::at(&home, user)
    }

    /// A directory that stands for it.
    ///
    /// # Errors
    /// If it is not there, or not this user's.
    pub fn at(dir: &Path, user: UserName) -> Result<Self, SshError> {
        hosts::quoted(dir)?;
        Ok(Self { dir: UserDir::open(dir)?, user, etc: "/etc".into() })
    }

    /// Looks for names that are in use there instead of in `/etc`.
    #[must_use]
    pub fn with_etc(mut self, etc: &Path) -> Self {
        etc.clone_into(&mut self.etc);
        self
    }

    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    // Who may come in

    /// Lets a device in; whatever was installed for it before goes.
    ///
    /// # Errors
    /// As the files; nothing is changed then.
    pub fn allow(&self, access: &Access) -> Result<Edited, SshError> {
        self.allow_each(&access.tag, std::slice::from_ref(access))
    }

    /// As [`Home::allow`], with several keys or terms. Lines of ours whose end has come go, too, whoever they are for:
    /// they let nobody in any more.
    ///
    /// # Errors
    /// As the files; nothing is changed then.
    pub fn allow_each(&self, tag: &Tag, leaves: &[Access]) -> Result<Edited, SshError> {
        let new: String =
            leaves.iter().filter(|leave| leave.tag == *tag).map(Access::line).collect();
        Ok(self.dir.edit(AUTHORIZED, &is_ours, &mut |old| {
            let of_it = |line: &[u8]| Tag::of_line(line).as_ref() == Some(tag);
            let kept: Vec<u8> = lines(old)
                .filter(|line| of_it(line) || !is_over(line))
                .flatten()
                .copied()
                .collect();
            replaced(&kept, of_it, new.as_bytes())
        })?)
    }

    /// Lets a device in no more, however its lines look by now: also by no line of ours for somebody else that has
    /// the same key, since whoever holds the key could come in by that.
    ///
    /// # Errors
    /// As the files; nothing is changed then.
    pub fn revoke(&self, tag: &Tag) -> Result<Edited, SshError> {
        if self.dir.read(AUTHORIZED, MAX_FILE)?.is_none() {
            return Ok(Edited::Unchanged);
        }
        Ok(self.dir.edit(AUTHORIZED, &is_ours, &mut |old| {
            let of_it = |line: &[u8]| Tag::of_line(line).as_ref() == Some(tag);
            let keys: Vec<PublicKey> = lines(old)
                .filter(|line| of_it(line))
                .filter_map(|line| Allowed::read(line)?.key)
                .collect();
            let same_key = |line: &[u8]| {
                Allowed::read(line)
                    .and_then(|other| other.key)
                    .is_some_and(|key| keys.contains(&key))
            };
            replaced(old, |line| of_it(line) || same_key(line) || is_over(line), b"")
        })?)
    }

    /// True if this key opens the account by a line that is not ours, and so after [`Home::revoke`], too.
    ///
    /// # Errors
    /// As the file.
    pub fn allows_by_others(&self, key: &PublicKey) -> Result<bool, SshError> {
        let text = self.dir.read(AUTHORIZED, MAX_FILE)?.unwrap_or_default();
        let opens = |line: &[u8]| {
            !is_ours(line)
                && line.trim_ascii_start().first() != Some(&b'#')
                && line.split(u8::is_ascii_whitespace).any(|word| word == key.base64().as_bytes())
        };
        Ok(lines(&text).any(opens))
    }

    // Where one may go

    /// Makes `ssh ALIAS` reach a device. What was installed for the same device or alias by us is replaced, its
    /// host keys only by the same ones.
    ///
    /// # Errors
    /// If the alias means something else already (rule T24), if host keys that are pinned would change (attack 19),
    /// or as the files.
    pub fn reach(&self, host: &Host) -> Result<Edited, SshError> {
        let blocks = self.blocks()?;
        if let Some(block) = blocks.iter().find(|block| block.alias == host.alias)
            && block.tag != host.tag
        {
            return Err(used(&host.alias, &format!("kin ssh hosts, by {}", block.name)));
        }
        let new = !blocks.iter().any(|block| block.alias == host.alias);
        // What this machine calls itself may have changed since.
        let place = match new {
            true => self.used(&host.alias)?,
            false => self.places("").of(host.alias.as_str())?,
        };
        if let Some(place) = place {
            return Err(used(&host.alias, &place.display().to_string()));
        }
        // What ssh makes of a name of ours is ours.
        if new && self.judge()?.means(host.alias.as_str()) {
            return Err(used(&host.alias, JUDGED));
        }
        let pinned: Vec<PublicKey> = self
            .pinned()?
            .into_iter()
            .filter_map(|pin| (pin.tag == host.tag).then_some(pin.key))
            .collect();
        if let Some((old, now)) = known::conflict(&pinned, &host.host_keys) {
            return Err(SshError::HostKeyChanged {
                alias: host.alias.to_string(),
                pinned: old.fingerprint().to_owned(),
                now: now.map_or("none", PublicKey::fingerprint).to_owned(),
            });
        }
        let block = Block::new(host);
        // What cannot be written is refused before anything is.
        let known_hosts = self.path().join(KNOWN);
        hosts::write(vec![block.clone()], &known_hosts)?;
        let pins = known::lines(host);
        // A pin that is left of another device of this name would let that one stand for this one.
        let of_it = |line: &[u8]| {
            Tag::of_line(line).as_ref() == Some(&host.tag) || is_pin_of(line, &host.alias)
        };
        let mut edited =
            self.dir.edit(KNOWN, &is_ours, &mut |old| replaced(old, of_it, pins.as_bytes()))?;
        edited = either(
            edited,
            self.edit_blocks(|blocks| {
                blocks.retain(|old| old.tag != host.tag && old.alias != host.alias);
                blocks.push(block.clone());
            })?,
        );
        Ok(either(edited, self.include(true)?))
    }

    /// Forgets an alias: `ssh ALIAS` means nothing any more, as far as it was ours.
    ///
    /// # Errors
    /// As the files.
    pub fn unreach(&self, alias: &Alias) -> Result<Edited, SshError> {
        let edited = self.edit_blocks(|blocks| blocks.retain(|block| block.alias != *alias))?;
        let edited = either(edited, self.without(KNOWN, |line| is_pin_of(line, alias))?);
        let none_left = self.blocks()?.is_empty();
        Ok(either(edited, if none_left { self.include(false)? } else { Edited::Unchanged }))
    }

    /// Takes away everything that is installed for a device, in both directions.
    ///
    /// # Errors
    /// As the files; coming in is taken away first.
    pub fn forget(&self, tag: &Tag) -> Result<Edited, SshError> {
        let mut edited = self.revoke(tag)?;
        for block in self.blocks()? {
            if block.tag == *tag {
                edited = either(edited, self.unreach(&block.alias)?);
            }
        }
        // Pins whose block a person has removed.
        let pins = self.without(KNOWN, |line| Tag::of_line(line).as_ref() == Some(tag))?;
        Ok(either(edited, pins))
    }

    /// A device has another id from now on: what is installed for it is the new one's.
    ///
    /// # Errors
    /// As the files.
    pub fn retag(&self, old: &Tag, new: &Tag) -> Result<Edited, SshError> {
        let rename = |bytes: &[u8]| -> Vec<u8> {
            let renamed = |line: &[u8]| match Tag::of_line(line) {
                Some(tag) if tag == *old => {
                    let text = String::from_utf8_lossy(line);
                    text.replacen(&old.to_string(), &new.to_string(), 1).into_bytes()
                }
                _ => line.to_vec(),
            };
            lines(bytes).flat_map(renamed).collect()
        };
        let mut edited = Edited::Unchanged;
        for at in [AUTHORIZED, KNOWN] {
            if self.dir.read(at, MAX_FILE)?.is_some() {
                edited = either(edited, self.dir.edit(at, &is_ours, &mut |bytes| rename(bytes))?);
            }
        }
        if self.blocks()?.iter().any(|block| block.tag == *old) {
            let change = |blocks: &mut Vec<Block>| {
                for block in blocks.iter_mut().filter(|block| block.tag == *old) {
                    block.tag = new.clone();
                }
            };
            edited = either(edited, self.edit_blocks(change)?);
        }
        Ok(edited)
    }

    /// Everything that is installed, by name: what `kin ssh hosts` shows.
    ///
    /// # Errors
    /// As the files.
    pub fn installed(&self) -> Result<Vec<Installed>, SshError> {
        let mut found: Vec<Installed> = Vec::new();
        let mut entry = |tag: &Tag, name: &str| {
            found.iter().position(|one| one.tag == *tag).unwrap_or_else(|| {
                let (tag, name) = (tag.clone(), name.to_owned());
                found.push(Installed { tag, name, access: Vec::new(), host: None });
                found.len() - 1
            })
        };
        let pins = self.pinned()?;
        let mut hosts = Vec::new();
        for block in self.blocks()? {
            let at = entry(&block.tag, &block.name);
            let keys = pins.iter().filter(|pin| pin.alias == block.alias);
            let host_keys = keys.map(|pin| pin.key.clone()).collect();
            let Block { alias, host_name, port, user, identity, .. } = block;
            hosts.push((at, Reached { alias, host_name, port, user, identity, host_keys }));
        }
        let mut allowed = Vec::new();
        let text = self.dir.read(AUTHORIZED, MAX_FILE)?.unwrap_or_default();
        for access in lines(&text).filter_map(Allowed::read) {
            allowed.push((entry(&access.tag, &access.name), access));
        }
        for (at, host) in hosts {
            if let Some(one) = found.get_mut(at) {
                one.host = Some(host);
            }
        }
        for (at, access) in allowed {
            if let Some(one) = found.get_mut(at) {
                one.access.push(access);
            }
        }
        found.sort_by(|a, b| (&a.name, &a.tag).cmp(&(&b.name, &b.tag)));
        Ok(found)
    }

    // Aliases

    /// The alias of a device: the one that it has here, or the first free one that its name suggests.
    ///
    /// # Errors
    /// As the files.
    pub fn propose(&self, tag: &Tag, name: &str) -> Result<Alias, SshError> {
        let blocks = self.blocks()?;
        if let Some(block) = blocks.iter().find(|block| block.tag == *tag) {
            return Ok(block.alias.clone());
        }
        let judge = self.judge()?;
        for base in [Alias::suggested(name), Alias::suggested("")] {
            let numbered = (2..=MAX_NUMBER).map(|number| base.numbered(number));
            for alias in std::iter::once(base.clone()).chain(numbered) {
                let ours = blocks.iter().any(|block| block.alias == alias);
                if !ours && self.used(&alias)?.is_none() && !judge.means(alias.as_str()) {
                    return Ok(alias);
                }
            }
        }
        Err(used(&Alias::suggested(name), "every form of it"))
    }

    /// Where somebody else than us uses a name already: one of the files that give names a meaning.
    ///
    /// # Errors
    /// If one of them cannot be looked through, so that no name can be said to be free.
    pub fn used(&self, alias: &Alias) -> Result<Option<PathBuf>, SshError> {
        self.places(&rustix::system::uname().nodename().to_string_lossy()).of(alias.as_str())
    }

    fn places<'a>(&'a self, own: &'a str) -> Places<'a> {
        let ssh_dir = self.path().join(".ssh");
        Places { ssh_dir, ours: self.path().join(OURS), etc: &self.etc, own }
    }

    /// ssh itself, asked without the devices that are ours.
    fn judge(&self) -> Result<Judge, SshError> {
        self.places("").judge(|line| is_include(line.as_bytes()))
    }

    // Files

    fn blocks(&self) -> Result<Vec<Block>, SshError> {
        let bytes = self.dir.read(OURS, MAX_FILE)?.unwrap_or_default();
        Ok(hosts::read(&bytes))
    }

    fn pinned(&self) -> Result<Vec<known::Pinned>, SshError> {
        let bytes = self.dir.read(KNOWN, MAX_FILE)?.unwrap_or_default();
        Ok(lines(&bytes).filter_map(known::read).collect())
    }

    fn edit_blocks(&self, change: impl Fn(&mut Vec<Block>)) -> Result<Edited, SshError> {
        let known_hosts = self.path().join(KNOWN);
        let mut failed = None;
        let edited = self.dir.edit(OURS, &|_| true, &mut |old| {
            let mut blocks = hosts::read(old);
            change(&mut blocks);
            match hosts::write(blocks, &known_hosts) {
                Ok(text) => text.into_bytes(),
                Err(error) => {
                    failed = Some(error);
                    old.to_vec()
                }
            }
        })?;
        failed.map_or(Ok(edited), Err)
    }

    /// The line by which ssh finds our file is there, or is not.
    fn include(&self, wanted: bool) -> Result<Edited, SshError> {
        let file = hosts::quoted(&self.path().join(OURS))?;
        let line = format!("Include {file}{INCLUDE_MARK}\n");
        let edited = self.dir.edit(CONFIG, &is_include, &mut |old| {
            if wanted && old.starts_with(line.as_bytes()) {
                return old.to_vec();
            }
            // The first line: behind a `Host` it would count for that host alone.
            let mut new = if wanted { line.clone().into_bytes() } else { Vec::new() };
            new.extend(lines(old).filter(|line| !is_include(line)).flatten());
            new
        });
        match edited {
            // Nothing of ours is in a file that cannot be had.
            Err(UserFileError::Io { .. })
                if !wanted && self.dir.read(CONFIG, MAX_FILE)?.is_none() =>
            {
                Ok(Edited::Unchanged)
            }
            edited => Ok(edited?),
        }
    }

    fn without(&self, at: &str, of_it: impl Fn(&[u8]) -> bool) -> Result<Edited, SshError> {
        if self.dir.read(at, MAX_FILE)?.is_none() {
            return Ok(Edited::Unchanged);
        }
        Ok(self.dir.edit(at, &is_ours, &mut |old| replaced(old, &of_it, b""))?)
    }
}

fn used(alias: &Alias, by: &str) -> SshError {
    AliasError::Used { name: alias.to_string(), by: by.to_owned() }.into()
}

fn either(a: Edited, b: Edited) -> Edited {
    if a == Edited::Changed { a } else { b }
}

/// True for a line of ours in `known_hosts` that says a host key of this alias.
fn is_pin_of(line: &[u8], alias: &Alias) -> bool {
    is_ours(line) && line.split(u8::is_ascii_whitespace).next() == Some(alias.as_str().as_bytes())
}

/// True for the line by which ssh finds our file.
fn is_include(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(INCLUDE_MARK.as_bytes())
}

/// True for a line of ours that lets nobody in any more.
fn is_over(line: &[u8]) -> bool {
    Allowed::read(line).is_some_and(|access| access.is_over())
}

fn is_ours(line: &[u8]) -> bool {
    Tag::of_line(line).is_some()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// The contents with `new` in the place of the first line that `goes` holds for, and without the others. If there
/// is none, it goes to the end; but before a last line that has no end, which stays as it is.
fn replaced(old: &[u8], goes: impl Fn(&[u8]) -> bool, new: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(old.len() + new.len());
    let mut placed = false;
    for line in lines(old) {
        if goes(line) {
            if !std::mem::replace(&mut placed, true) {
                text.extend(new);
            }
            continue;
        }
        if !placed && !line.ends_with(b"\n") && !old.is_empty() {
            text.extend(new);
            placed = true;
        }
        text.extend(line);
    }
    if !placed {
        text.extend(new);
    }
    text
}

#[cfg(test)]
#[path = "home_tests.rs"]
#[expect(clippy::disallowed_methods, reason = "tests look at a home from outside")]
mod tests;

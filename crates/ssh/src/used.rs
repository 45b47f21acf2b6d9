//! Whether a name means something to ssh already (rule T24): `github.com` must not be hijacked, and neither must a
//! `nas` that a person has set up.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use tree::FileError;

use crate::{SshError, judge::Judge, text::unbase64};

/// Deepest chain of `Include`, as ssh has it.
const MAX_DEPTH: u8 = 16;
/// Largest file that is looked into.
const MAX_FILE: usize = 16 << 20;
/// Names of every machine for itself.
const OWN: [&str; 6] =
    ["localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "broadcasthost"];

/// Files that name hosts, and how they are read.
pub(crate) struct Places<'a> {
    /// The user's `.ssh`.
    pub(crate) ssh_dir: PathBuf,
    /// The file that is ours, which does not count.
    pub(crate) ours: PathBuf,
    /// The system's, normally `/etc`.
    pub(crate) etc: &'a Path,
    /// What this machine calls itself.
    pub(crate) own: &'a str,
}

impl Places<'_> {
    /// Where a name is used, if it is.
    ///
    /// # Errors
    /// If a file that is there cannot be looked through: any name may be in it.
    pub(crate) fn of(&self, name: &str) -> Result<Option<PathBuf>, SshError> {
        let hosts = self.etc.join("hosts");
        let own = self.own.split('.').next().unwrap_or_default();
        if OWN.contains(&name) || [own, self.own].iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Ok(Some("the names of this machine".into()));
        }
        if text(&hosts)?.lines().any(|line| names_host(line, name)) {
            return Ok(Some(hosts));
        }
        let known = [
            self.ssh_dir.join("known_hosts"),
            self.ssh_dir.join("known_hosts2"),
            self.etc.join("ssh/ssh_known_hosts"),
            self.etc.join("ssh/ssh_known_hosts2"),
        ];
        for file in known {
            if text(&file)?.lines().any(|line| knows(line, name)) {
                return Ok(Some(file));
            }
        }
        let system = self.etc.join("ssh");
        let found = self.configured(&self.ssh_dir.join("config"), &self.ssh_dir, name, 0)?;
        if found.is_some() {
            return Ok(found);
        }
        self.configured(&system.join("ssh_config"), &system, name, 0)
    }

    /// The configuration of which ssh is asked: the user's without the lines that hold, and the system's behind it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn judge(&self, ours: impl Fn(&str) -> bool) -> Result<Judge, SshError> {
        let user = text(&self.ssh_dir.join("config"))?;
        let mut config: String = user.split_inclusive('\n').filter(|line| !ours(line)).collect();
        let system = self.etc.join("ssh/ssh_config");
        config.push_str(&format!("\nMatch all\nInclude \"{}\"\n", system.display()));
        Ok(Judge::of(config.into_bytes()))
    }

    fn configured(
        &self,
        file: &Path,
        base: &Path,
        name: &str,
        depth: u8,
    ) -> Result<Option<PathBuf>, SshError> {
        if depth > MAX_DEPTH || file == self.ours {
            return Ok(None);
        }
        for line in text(file)?.lines() {
            let (key, values) = words(line);
            let named = match key.as_str() {
                "host" => values.iter().any(|pattern| means(pattern, name)),
                "match" => matched(&values, name),
                _ => false,
            };
            if named {
                return Ok(Some(file.to_owned()));
            }
            if key != "include" {
                continue;
            }
            for pattern in &values {
                let at = match pattern.strip_prefix("~/") {
                    Some(rest) => self.ssh_dir.parent().unwrap_or(Path::new("/")).join(rest),
                    None => base.join(pattern),
                };
                for file in expand(&at) {
                    let found = self.configured(&file, base, name, depth + 1)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(None)
    }
}

/// True if a person who wrote this pattern meant this name. One for everybody means no name.
fn means(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix('!').unwrap_or(pattern);
    !pattern.trim_matches(['*', '?']).is_empty() && matches(pattern, name)
}

/// True if a `Match` line names it. What else such a line can say, ssh itself is asked.
fn matched(values: &[String], name: &str) -> bool {
    let mut values = values.iter();
    while let Some(word) = values.next() {
        let (key, given) = match word.split_once('=') {
            Some((key, given)) => (key, Some(given)),
            None => (word.as_str(), None),
        };
        let key = key.trim_start_matches('!').to_ascii_lowercase();
        if matches!(key.as_str(), "all" | "canonical" | "final") {
            continue;
        }
        let patterns = given.or_else(|| values.next().map(String::as_str)).unwrap_or_default();
        let of_hosts = key == "host" || key == "originalhost";
        if of_hosts && patterns.split(',').any(|pattern| means(pattern, name)) {
            return true;
        }
    }
    false
}

/// What a file holds, as far as it is text; nothing if it is not there.
///
/// # Errors
/// If it is there and cannot be read, or is too large to be looked through.
fn text(path: &Path) -> Result<String, SshError> {
    match tree::read_bytes(path, MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(FileError::NotFound(_) | FileError::NotAFile(_)) => Ok(String::new()),
        Err(error) => Err(SshError::Unsure(error.to_string())),
    }
}

/// Keyword and arguments of a line of configuration.
pub(crate) fn words(line: &str) -> (String, Vec<String>) {
    let line = line.trim();
    if line.starts_with('#') {
        return Default::default();
    }
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quoted, mut any) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            c if !quoted && (c.is_whitespace() || (c == '=' && words.is_empty())) => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    // `Port = 22`: the sign alone is no argument.
    let mut words = words.into_iter().filter(|word| word != "=");
    let key = words.next().unwrap_or_default().to_ascii_lowercase();
    (key, words.collect())
}

/// The files that a pattern means; a wildcard may be in the last name only, which is what people write.
pub(crate) fn expand(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let Some(Ok(entries)) = pattern.parent().map(Path::read_dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| matches(&name, &entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort_unstable();
    found
}

/// True if a pattern with `*` and `?` fits; upper and lower case are alike, as in host names.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // Where the last star was, and how far it reaches: the usual loop without recursion.
    let (mut p, mut n, mut star) = (0, 0, None);
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(same) if same == byte => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, reach)) => {
                    (p, n) = (at + 1, reach + 1);
                    star = Some((at, reach + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// A line of /etc/hosts names it.
fn names_host(line: &str, name: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default();
    line.split_whitespace().skip(1).any(|word| word.eq_ignore_ascii_case(name))
}

/// A line of known_hosts that is not ours is about it.
fn knows(line: &str, name: &str) -> bool {
    if line.starts_with('#') || crate::Tag::of_line(line.as_bytes()).is_some() {
        return false;
    }
    let mut words = line.split_whitespace();
    let mut hosts = words.next().unwrap_or_default();
    if hosts.starts_with('@') {
        hosts = words.next().unwrap_or_default();
    }
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        let Some((salt, hash)) = hashed.split_once('|') else { return false };
        let (Some(salt), Some(hash)) = (unbase64(salt), unbase64(hash)) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        return hmac::verify(&key, name.as_bytes(), &hash).is_ok();
    }
    hosts.split(',').any(|host| {
        let plain = host.strip_prefix('[').and_then(|host| host.split_once(']'));
        let host = plain.map_or(host, |(host, _)| host);
        means(host, name)
    })
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests make the files of a home"
)]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn t24_a_name_that_ssh_knows_already_is_found_wherever_it_is() {
        let top = tempdir().expect("there is room");
        let (ssh, etc) = (top.path().join(".ssh"), top.path().join("etc"));
        fs::create_dir_all(ssh.join("conf.d")).expect("there is room");
        fs::create_dir_all(etc.join("ssh")).expect("there is room");
        let put = |path: PathBuf, text: &str| fs::write(path, text).expect("there is room");
        put(
            ssh.join("config"),
            "Include kinfold_config # x\nInclude conf.d/*\nHost a web-* \"c d\"\n\thostname = b\nHost=e\nHost *\n",
        );
        put(
            ssh.join("conf.d/one"),
            "host inner\nMatch exec free host=x originalhost one,t?o,!not all\nHost ?* !never\n",
        );
        put(ssh.join("kinfold_config"), "Host mine\n");
        // `ssh-keygen -H` made the second line of `hashed`.
        put(
            ssh.join("known_hosts"),
            "github.com,gist ssh-ed25519 AAAA\n[odd]:2222 ssh-ed25519 AAAA\n@cert-authority *.corp ssh-rsa AAAA\n\
             mine ssh-ed25519 AAAA kinfold:kd1x mine\n# remark ssh-ed25519 AAAA\n\
             |1|fhf3uKyye3MVN27W9F3wIEFkRW4=|R/ThO/2SpSMeNdxIak6qTkrjWpk= ssh-rsa AAAA\n",
        );
        put(etc.join("hosts"), "127.0.0.1 localhost\n10.0.0.3 Nas nas.local # printer\n");
        put(etc.join("ssh/ssh_config"), "Host bastion\n");
        let ours = ssh.join("kinfold_config");
        let places = Places { ours, ssh_dir: ssh.clone(), etc: &etc, own: "Mach.example" };
        let of = |name: &str| places.of(name).expect("can be read");
        for used in [
            "a",
            "web-1",
            "e",
            "inner",
            "one",
            "two",
            "x",
            "not",
            "never",
            "mach",
            "ip6-loopback",
            "github.com",
            "gist",
            "odd",
            "x.corp",
            "localhost",
            "nas",
            "bastion",
            "hashed",
        ] {
            assert!(of(used).is_some(), "{used}");
        }
        for free in ["b", "mine", "desk", "printer", "remark", "web", "hostname", "free", "all"] {
            assert_eq!(of(free), None, "{free}");
        }
    }
    #[test]
    fn t24_what_cannot_be_looked_through_leaves_no_name_free() {
        let top = tempdir().expect("there is room");
        let (ssh, etc) = (top.path().join(".ssh"), top.path().join("etc"));
        fs::create_dir_all(ssh.join("conf.d/inner")).expect("there is room");
        let ours = ssh.join("kinfold_config");
        let places = Places { ours, ssh_dir: ssh.clone(), etc: &etc, own: "" };
        fs::write(ssh.join("config"), "Include conf.d/*\n").expect("there is room");
        assert_eq!(places.of("desk").expect("directories are no files"), None);
        // Longer than anything that is looked through; ssh reads it all the same.
        let large = fs::File::create(ssh.join("conf.d/large")).expect("there is room");
        large.set_len(MAX_FILE as u64 + 1).expect("there is room");
        let error = places.of("desk").expect_err("a name may be in it");
        assert!(error.to_string().contains("conf.d/large"), "{error}");
    }
}

//! Whether a name means something to ssh already (rule T24): `github.com` must not be hijacked, and neither must a
//! `nas` that a person has set up.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;

use crate::text::unbase64;

/// Deepest chain of `Include`.
const MAX_DEPTH: u8 = 8;
/// Largest file that is looked into.
const MAX_FILE: usize = 16 << 20;

/// Files that name hosts, and how they are read.
pub(crate) struct Places<'a> {
    /// The user's `.ssh`.
    pub(crate) ssh_dir: PathBuf,
    /// The file that is ours, which does not count.
    pub(crate) ours: PathBuf,
    /// The system's, normally `/etc`.
    pub(crate) etc: &'a Path,
}

impl Places<'_> {
    /// Where a name is used, if it is.
    pub(crate) fn of(&self, name: &str) -> Option<PathBuf> {
        let hosts = self.etc.join("hosts");
        if text(&hosts).lines().any(|line| names_host(line, name)) {
            return Some(hosts);
        }
        let known = [
            self.ssh_dir.join("known_hosts"),
            self.ssh_dir.join("known_hosts2"),
            self.etc.join("ssh/ssh_known_hosts"),
        ];
        for file in known {
            if text(&file).lines().any(|line| knows(line, name)) {
                return Some(file);
            }
        }
        let system = self.etc.join("ssh");
        self.configured(&self.ssh_dir.join("config"), &self.ssh_dir, name, 0)
            .or_else(|| self.configured(&system.join("ssh_config"), &system, name, 0))
    }

    fn configured(&self, file: &Path, base: &Path, name: &str, depth: u8) -> Option<PathBuf> {
        if depth > MAX_DEPTH || file == self.ours {
            return None;
        }
        for line in text(file).lines() {
            let (key, values) = words(line);
            let included = |pattern: &String| {
                let at = match pattern.strip_prefix("~/") {
                    Some(rest) => self.ssh_dir.parent().unwrap_or(Path::new("/")).join(rest),
                    None => base.join(pattern),
                };
                expand(&at).iter().find_map(|file| self.configured(file, base, name, depth + 1))
            };
            let found = match key.as_str() {
                // A block for everybody is no name; any other pattern that fits means this one, too.
                "host" => values
                    .iter()
                    .any(|pattern| !pattern.trim_matches('*').is_empty() && matches(pattern, name))
                    .then(|| file.to_owned()),
                "match" => values
                    .iter()
                    .flat_map(|value| value.split(','))
                    .any(|value| value == name)
                    .then(|| file.to_owned()),
                "include" => values.iter().find_map(included),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// What a file holds, as far as it is text; nothing if it cannot be read, since then ssh cannot read it either.
fn text(path: &Path) -> String {
    match tree::read_bytes(path, MAX_FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
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
        !host.trim_matches('*').is_empty() && matches(host, name)
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the files of a home")]
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
        put(ssh.join("conf.d/one"), "host inner\nMatch host=x originalhost one,two\n");
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
        let places = Places { ours: ssh.join("kinfold_config"), ssh_dir: ssh.clone(), etc: &etc };
        for used in [
            "a",
            "web-1",
            "e",
            "inner",
            "one",
            "two",
            "github.com",
            "gist",
            "odd",
            "x.corp",
            "localhost",
            "nas",
            "bastion",
            "hashed",
        ] {
            assert!(places.of(used).is_some(), "{used}");
        }
        for free in ["b", "mine", "desk", "printer", "remark", "web", "hostname"] {
            assert_eq!(places.of(free), None, "{free}");
        }
    }
}

//! What others need to know of this machine to come in by SSH: the user, and where sshd listens with which keys.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{Uid, User};

use crate::{
    PublicKey, SshError, UserName,
    used::{expand, words},
};

/// Largest file of sshd's that is looked at.
const MAX_FILE: usize = 1 << 20;
/// Deepest chain of `Include`.
const MAX_DEPTH: u8 = 8;
/// Most host keys.
const MAX_HOST_KEYS: usize = 8;

/// The user that this process is of, by its uid: what the environment says is not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// The user's name.
    pub user: UserName,
    /// The user's home directory.
    pub home: PathBuf,
}

impl Local {
    /// Asks the system's user database.
    ///
    /// # Errors
    /// If it does not know this user, or under a name that ssh cannot be given.
    pub fn find() -> Result<Self, SshError> {
        let uid = Uid::effective();
        let unknown = || SshError::NoUser(uid.as_raw());
        let found = User::from_uid(uid).ok().flatten().ok_or_else(unknown)?;
        let user = UserName::new(&found.name).map_err(|_| unknown())?;
        Ok(Self { user, home: found.dir })
    }
}

/// This machine's SSH server, as its configuration says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sshd {
    /// Where it listens.
    pub port: u16,
    /// Its host keys; none if there is no server, or they cannot be read.
    pub host_keys: Vec<PublicKey>,
}

impl Sshd {
    /// Reads the configuration (normally `/etc/ssh/sshd_config`). What it does not say is as sshd has it.
    #[must_use]
    pub fn read(config: &Path) -> Self {
        let base = config.parent().unwrap_or(Path::new("/"));
        let mut said = Said::default();
        said.read(config, base, 0);
        let mut files = said.host_keys;
        if files.is_empty() {
            let kinds = ["ed25519", "ecdsa", "rsa"];
            files = kinds.map(|kind| base.join(format!("ssh_host_{kind}_key"))).into();
        }
        let mut host_keys: Vec<PublicKey> = Vec::new();
        for mut file in files {
            file.as_mut_os_string().push(".pub");
            let text = tree::read_config(&file, MAX_FILE).unwrap_or_default();
            if let Ok(key) = PublicKey::parse(text.trim_end())
                && !host_keys.contains(&key)
                && host_keys.len() < MAX_HOST_KEYS
            {
                host_keys.push(key);
            }
        }
        Self { port: said.port.or(said.listen_port).unwrap_or(22), host_keys }
    }
}

#[derive(Default)]
struct Said {
    port: Option<u16>,
    /// Of a `ListenAddress` with a port.
    listen_port: Option<u16>,
    host_keys: Vec<PathBuf>,
}

impl Said {
    /// The first value of a keyword counts; what is behind `Match` is for some users only.
    fn read(&mut self, file: &Path, base: &Path, depth: u8) {
        let Ok(text) = tree::read_config(file, MAX_FILE) else { return };
        for line in text.lines() {
            let (key, values) = words(line);
            let first = values.first().map(String::as_str).unwrap_or_default();
            match key.as_str() {
                "port" => self.port = self.port.or(first.parse().ok()),
                "listenaddress" => {
                    let port = first.rsplit_once(':').filter(|(host, _)| {
                        // Of an IPv6 address only in brackets.
                        host.ends_with(']') || !host.contains(':')
                    });
                    let port = port.and_then(|(_, port)| port.parse().ok());
                    self.listen_port = self.listen_port.or(port);
                }
                "hostkey" => self.host_keys.push(base.join(first)),
                "include" if depth < MAX_DEPTH => {
                    for pattern in &values {
                        for file in expand(&base.join(pattern)) {
                            self.read(&file, base, depth + 1);
                        }
                    }
                }
                "match" => return,
                _ => {}
            }
        }
    }
}

/// The version of this machine's OpenSSH, as its client says; `None` without one.
#[must_use]
pub fn openssh_version() -> Option<(u32, u32)> {
    let mut command = Command::new("ssh");
    let said = command.arg("-V").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&said.stderr))
}

fn parse_version(said: &str) -> Option<(u32, u32)> {
    let at = said.find("OpenSSH_")? + "OpenSSH_".len();
    // `OpenSSH_for_Windows_9.5p1` and `OpenSSH_9.2p1 Debian-2`.
    let rest = said.get(at..)?.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the files of a server")]
mod tests {
    use std::fs;

    use tempfile::tempdir;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz root@x";

    #[test]
    fn the_server_is_read_from_its_configuration_with_what_it_includes() {
        let top = tempdir().expect("there is room");
        let put = |name: &str, text: &str| fs::write(top.path().join(name), text).expect("is room");
        let config = top.path().join("sshd_config");
        assert_eq!(Sshd::read(&config), Sshd { port: 22, host_keys: Vec::new() });
        put("ssh_host_ed25519_key.pub", KEY);
        put("ssh_host_rsa_key.pub", "rubbish");
        assert_eq!(Sshd::read(&config).host_keys.len(), 1);
        fs::create_dir(top.path().join("d")).expect("there is room");
        put("d/10.conf", "port=2200\nHostKey other\n");
        put("other.pub", KEY);
        put("sshd_config", "Include d/*.conf\n#Port 1\nPort 22\nMatch User x\nHostKey never\n");
        let sshd = Sshd::read(&config);
        assert_eq!((sshd.port, sshd.host_keys.len()), (2200, 1));
        put("sshd_config", "ListenAddress ::1\nListenAddress [::]:2022\nListenAddress a:23\n");
        assert_eq!(Sshd::read(&config).port, 2022);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0"), Some((9, 2)));
        assert_eq!(parse_version("OpenSSH_for_Windows_9.5p1, LibreSSL"), Some((9, 5)));
        assert_eq!(parse_version("dropbear"), None);
    }
}

//! A PostgreSQL of our own, for as long as it is needed: in a temporary directory, on a Unix socket.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::wait::eventually_within;

/// Where Debian and others install the server, by version; and whatever `PATH` has.
const INSTALLED: &str = "/usr/lib/postgresql";
/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// PostgreSQL does not run as root: then it is this user, who owns nothing.
const NOBODY: u32 = 65534;

/// A running server. It ends, and its data with it, when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    server: Child,
    /// Where it listens for TLS, if it does.
    port: Option<u16>,
}

impl Postgres {
    /// Where the server's programs are, or what is missing, in words.
    ///
    /// # Errors
    /// If none of version 13 or later is installed.
    pub fn installed() -> Result<PathBuf, String> {
        let versions = fs::read_dir(INSTALLED).into_iter().flatten().flatten();
        let mut found: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                (version >= 13 && bin.join("initdb").exists()).then_some((version, bin))
            })
            .collect();
        found.sort();
        let (_, bin) = found.pop().ok_or("PostgreSQL (13 or later) is not installed")?;
        Ok(bin)
    }

    /// Starts one. `durable`: as it would run for good; otherwise fast, for tests that do not cut its power.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(durable: bool) -> Self {
        Self::begin(durable, None)
    }

    /// Starts one that is reached by TCP, too, and there by TLS alone, with this certificate chain and key (PEM).
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_with_tls(chain: &[u8], key: &[u8]) -> Self {
        Self::begin(false, Some((chain, key)))
    }

    fn begin(durable: bool, tls: Option<(&[u8], &[u8])>) -> Self {
        let bin = Self::installed().expect("the caller has looked");
        let dir = tempfile::Builder::new().prefix("kin-pg-").tempdir().expect("a directory");
        let place = dir.path().to_owned();
        if is_root(&place) {
            std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).expect("we are root");
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o711)).expect("it is ours");
        let data = place.join("data");
        let made = program(&bin, "initdb", &place)
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "kin", "-E", "UTF8", "--locale=C", "--no-sync"])
            .output()
            .expect("it can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = program(&bin, "postgres", &place);
        server.arg("-D").arg(&data).arg("-k").arg(&place);
        for setting in ["max_connections=60", "shared_buffers=256MB"] {
            server.args(["-c", setting]);
        }
        let port = tls.map(|(chain, key)| {
            for (name, pem) in [("chain.pem", chain), ("key.pem", key)] {
                let path = data.join(name);
                fs::write(&path, pem).expect("it is ours");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
                if is_root(&path) {
                    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("as root");
                }
            }
            let who = "local all all trust\nhostssl all all all trust\n";
            fs::write(data.join("pg_hba.conf"), who).expect("it is ours");
            for setting in ["ssl=on", "ssl_cert_file=chain.pem", "ssl_key_file=key.pem"] {
                server.args(["-c", setting]);
            }
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
            let port = free.expect("a free port").port();
            server.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]);
            port
        });
        if port.is_none() {
            server.args(["-c", "listen_addresses="]);
        }
        if !durable {
            server.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        let server = server.spawn().expect("it can be started");
        let postgres = Self { dir, server, port };
        let ready = || {
            program(&bin, "pg_isready", postgres.dir.path())
                .arg("-h")
                .arg(postgres.dir.path())
                .args(port.map(|port| format!("-p{port}")))
                .status()
                .is_ok_and(|status| status.success())
        };
        eventually_within(PATIENCE, "PostgreSQL answers", ready);
        postgres
    }

    /// How a database of it is reached.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let dir = self.dir.path().to_str().expect("we named it").replace('/', "%2F");
        format!("postgres://kin@{dir}/{database}")
    }

    /// The port at which it takes TLS.
    ///
    /// # Panics
    /// If it takes none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.expect("it was started with TLS")
    }

    /// Makes a database.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn create(&self, database: &str) {
        let bin = Self::installed().expect("it runs");
        let made = program(&bin, "createdb", self.dir.path())
            .arg("-h")
            .arg(self.dir.path())
            .args(["-U", "kin", database])
            .status()
            .expect("it can be started");
        assert!(made.success(), "createdb {database}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nothing of it is needed any more.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn is_root(ours: &Path) -> bool {
    fs::metadata(ours).is_ok_and(|it| it.uid() == 0)
}

/// One of its programs, as a user who is not root.
fn program(bin: &Path, name: &str, dir: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(bin.join(name));
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

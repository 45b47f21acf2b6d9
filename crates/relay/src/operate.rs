//! How a relay is run by its operator: flags, environment and file become settings, and settings a relay.
//!
//! `kin relay` and `kin-relay` take the same options and do the same; both only print. docs/relay.md is the
//! operator's guide.

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use identity::Secret;
use tree::{FileError, StateDir, StateError, StateLock};

use crate::{
    AddressError, Identity, RelayAddress, Server, ServerError, Settings, TlsError,
    store::{Postgres, Sqlite, Store, StoreError},
    tls,
};

mod options;

pub use options::{Options, OptionsError};

/// Where a relay listens unless it is told otherwise: every address, this port.
pub const DEFAULT_PORT: u16 = 8443;
/// The file of its own key, in its directory.
const KEY_FILE: &str = "relay.key";
/// The file of the embedded store, in its directory.
const STORE_FILE: &str = "relay.db";
/// What the key's text form begins with.
const KEY_PREFIX: &str = "kin-relay-key-";
/// Largest file of certificates in bytes.
const MAX_CHAIN: usize = 256 << 10;

/// What to do about a full disk.
const MAKE_ROOM: &str = "make room on the disk that --dir is on, and start it again";

/// Why a relay cannot be run as it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperateError {
    /// An option.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The directory, or a file in it.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file that was named.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process uses the directory.
    #[error("another relay is using {}", .0.display())]
    InUse(PathBuf),
    /// There is a store of a relay that had a key, and the key is not there.
    #[error("{} is missing, and a store is beside it", .0.display())]
    KeyMissing(PathBuf),
    /// The certificate is for other names.
    #[error("--cert: the certificate is not for {0}, so no device would accept it")]
    OtherName(String),
    /// The key in the directory.
    #[error("{}: this is no relay's key, or it is damaged", .0.display())]
    Key(PathBuf),
    /// Its address.
    #[error("the address that clients are told makes no sense: {0}")]
    Address(#[from] AddressError),
    /// The store in the directory.
    #[error(transparent)]
    Store(StoreError),
    /// The database.
    #[error(transparent)]
    Database(StoreError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// The listener.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl OperateError {
    /// A stable word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Options(error) => error.kind(),
            Self::InUse(_) => "in_use",
            Self::State(StateError::NotADirectory(_)) => "not_a_directory",
            Self::State(_) | Self::Key(_) | Self::KeyMissing(_) => "state",
            Self::File(_) => "file",
            Self::Address(_) => "address",
            Self::Store(_) | Self::Database(_) => "store",
            Self::OtherName(_) | Self::Tls(_) => "tls",
            Self::Io { .. } => "io",
            Self::Server(ServerError::Listen { source, .. }) => match source.kind() {
                io::ErrorKind::AddrInUse => "port_in_use",
                _ => "listen",
            },
            Self::Server(_) => "relay",
        }
    }

    /// True if it was asked for in a way that cannot be done.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Options(_) | Self::Address(_) | Self::File(_) | Self::OtherName(_) => true,
            _ => matches!(self.kind(), "port_in_use" | "not_a_directory"),
        }
    }

    /// What to do next; empty if there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Options(error) => error.hint(),
            Self::InUse(_) => "stop that one, or give this one another --dir",
            Self::State(StateError::NotADirectory(_)) => "give a directory to --dir",
            Self::State(StateError::Io { source, .. })
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                MAKE_ROOM
            }
            Self::KeyMissing(_) => {
                "put the key back from a backup; if a new key is meant, remove relay.db, too: the relay has another \
                 address then, and every device must be told"
            }
            Self::OtherName(_) => "say a name that it is for: --host NAME",
            Self::Key(_) => {
                "put back the key from a backup; with a new key all clients need the new address"
            }
            Self::Address(_) => {
                "give the name by which clients reach this relay: --host relay.example.org"
            }
            Self::Server(ServerError::Listen { source, .. }) => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program has this port: give another one to --listen"
                }
                io::ErrorKind::PermissionDenied => "ports below 1024 need a right of their own",
                _ => "",
            },
            Self::Store(StoreError::Newer { .. }) | Self::Database(StoreError::Newer { .. }) => {
                "update kin on this machine"
            }
            Self::Store(StoreError::DiskFull(_)) => MAKE_ROOM,
            Self::Store(StoreError::Damaged(_)) => {
                "move relay.db away, or put a backup in its place: devices bring again what is lost (docs/relay.md, Backup)"
            }
            Self::Database(StoreError::Failed(_)) => {
                "docs/relay.md says what a store needs, and how TLS to a database is chosen"
            }
            _ => "",
        }
    }
}

/// A relay that listens and is known by an address.
pub struct Operated {
    server: Server,
    /// What its clients are given.
    pub address: RelayAddress,
    /// Whether the host in the address was guessed: nobody said it.
    pub guessed: bool,
    /// Where it listens.
    pub port: u16,
    /// Where its metrics are.
    pub metrics_port: Option<u16>,
    /// `sqlite` or `postgres`.
    pub store: &'static str,
    /// Its directory.
    pub dir: PathBuf,
    /// What its operator should know of how the database is reached.
    pub caution: Option<&'static str>,
    _lock: Option<StateLock>,
}

impl Operated {
    /// Answers until `stop` is ready and what is under way then is finished.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        self.server.run(stop).await;
    }
}

/// Starts a relay as these options say, those given here before the environment's, and those before the
/// file's.
///
/// # Errors
/// If it cannot be run like that.
pub async fn start(given: Options) -> Result<Operated, OperateError> {
    let options = given.complete(env::vars_os())?;
    // What makes no sense is said before anything is made.
    let (listen, metrics, reach) = (options.listen()?, options.metrics()?, options.reach()?);
    if let Some(host) = &options.host {
        RelayAddress::new(host, DEFAULT_PORT, None)?;
    }
    allow_descriptors();
    let dir = directory(&options, |name| env::var_os(name)).ok_or(OptionsError::NoDirectory)?;
    let state = StateDir::open(&dir)?;
    let in_file = matches!(options.store.as_deref(), None | Some("sqlite"));
    let lock = if in_file { Some(state.lock().map_err(in_use)?) } else { None };
    // Before the store, so that there is never a store whose relay had no key yet.
    let identity = identity(&options, &state)?;
    let (host, guessed) = host(options.host.as_deref(), listen.ip());
    if let Identity::Certificate { chain, .. } = &identity
        && !tls::is_for(chain, &host)?
    {
        return Err(OperateError::OtherName(host));
    }
    let store: Arc<dyn Store> = match options.store.as_deref() {
        None | Some("sqlite") => {
            // Made here so that it is this user's alone; SQLite takes an empty file for a new one.
            state.create(STORE_FILE, b"")?;
            let path = dir.join(STORE_FILE);
            let quotas = options.quotas();
            // A file that was not closed is looked through first, which takes a while.
            let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, quotas)).await;
            let opened =
                opened.map_err(|error| io(io::Error::other(error), "cannot open the store"))?;
            Arc::new(opened.map_err(OperateError::Store)?)
        }
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            let opened = Postgres::open(url, options.quotas()).await;
            Arc::new(opened.map_err(OperateError::Database)?)
        }
        Some(_) => return Err(OptionsError::Store.into()),
    };
    let limits = options.limits();
    let kind = store.kind();
    let mut settings = Settings { listen, metrics, limits };
    let bound = match Server::bind(&settings, &identity, Arc::clone(&store)) {
        // A system without IPv6.
        Err(ServerError::Listen { source, .. })
            if settings.listen.ip() == Ipv6Addr::UNSPECIFIED && no_ipv6(&source) =>
        {
            settings.listen.set_ip(Ipv4Addr::UNSPECIFIED.into());
            Server::bind(&settings, &identity, store)
        }
        bound => bound,
    };
    let server = bound?;
    let port = server.port().map_err(|error| io(error, "cannot read the port"))?;
    let address = RelayAddress::new(&host, options.public_port.unwrap_or(port), identity.key())?;
    if let Some(reach) = reach {
        server.reached_at(RelayAddress::new(&reach.0, reach.1, identity.key())?);
    }
    let metrics_port = server.metrics_port();
    let caution = options.store.as_deref().and_then(Postgres::caution);
    Ok(Operated {
        caution,
        server,
        address,
        guessed,
        port,
        metrics_port,
        store: kind,
        dir,
        _lock: lock,
    })
}

/// Each connection takes a descriptor: as many as this process may have at all.
fn allow_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // If it may not, there are fewer connections, and who comes then waits.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

fn in_use(error: StateError) -> OperateError {
    match error {
        StateError::Locked { path, .. } => OperateError::InUse(path),
        error => error.into(),
    }
}

fn io(source: io::Error, doing: &'static str) -> OperateError {
    OperateError::Io { doing, source }
}

fn no_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Where the relay keeps what it keeps: `--dir`, else what systemd says, else beside the device's state.
fn directory(
    options: &Options,
    var: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let dir = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = &options.dir {
        return Some(dir.clone());
    }
    if let Some(dir) = dir("STATE_DIRECTORY") {
        return Some(dir);
    }
    if let Some(home) = dir("KIN_HOME") {
        return Some(home.join("relay"));
    }
    let state = dir("XDG_STATE_HOME").filter(|dir| dir.is_absolute());
    let state = state.or_else(|| Some(dir("HOME")?.join(".local").join("state")))?;
    Some(state.join("kin-relay"))
}

/// The certificate that was given, or the key in the directory, made on first use.
fn identity(options: &Options, state: &StateDir) -> Result<Identity, OperateError> {
    if let (Some(chain), Some(key)) = (&options.cert, &options.cert_key) {
        let chain = tree::read_config(chain, MAX_CHAIN)?.into_bytes();
        let key = Secret::new(tree::read_secret_file(key)?);
        return Ok(Identity::Certificate { chain, key });
    }
    let path = state.path().join(KEY_FILE);
    if state.read(KEY_FILE)?.is_none() {
        if state.holds(STORE_FILE)? {
            return Err(OperateError::KeyMissing(path));
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| io(io::Error::other(error.to_string()), "no randomness"))?;
        let seed = Secret::new(seed);
        // Another process may have made it meanwhile, and then it is that one.
        state.create(KEY_FILE, key_text(&seed).expose().as_bytes())?;
    }
    let text = Secret::new(state.read(KEY_FILE)?.unwrap_or_default());
    let seed = read_key(text.expose()).ok_or_else(|| OperateError::Key(path.clone()))?;
    Identity::from_seed(&seed).map_err(|_| OperateError::Key(path))
}

fn key_text(seed: &Secret<[u8; 32]>) -> Secret<String> {
    let mut text = String::with_capacity(128);
    let prefix = Hrp::parse_unchecked(KEY_PREFIX);
    // Writing to a string does not fail, and neither is anything here too long.
    let _ = bech32::encode_lower_to_fmt::<Bech32m, _>(&mut text, prefix, seed.expose());
    text.push('\n');
    Secret::new(text)
}

fn read_key(text: &[u8]) -> Option<Secret<[u8; 32]>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let checked = CheckedHrpstring::new::<Bech32m>(text).ok()?;
    let bytes = Secret::new(checked.byte_iter().collect::<Vec<u8>>());
    let right = checked.hrp() == Hrp::parse_unchecked(KEY_PREFIX);
    let seed: [u8; 32] = bytes.expose().as_slice().try_into().ok().filter(|_| right)?;
    Some(Secret::new(seed))
}

/// The host in the address, and whether it was guessed.
fn host(given: Option<&str>, listening: IpAddr) -> (String, bool) {
    match given {
        Some(host) => (host.to_owned(), false),
        None if !listening.is_unspecified() => (listening.to_string(), false),
        None => (outward().unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string(), true),
    }
}

/// The address from which this machine would reach others. Nothing is sent.
fn outward() -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): a route is looked up, and that is all.
    let routes: [(SocketAddr, SocketAddr); 2] = [
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into()),
        (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
        ),
    ];
    routes.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
    })
}

/// What a person reads when the relay has begun.
#[must_use]
pub fn words(relay: &Operated) -> Vec<String> {
    let Operated { port, store, dir, .. } = relay;
    let place = |dir: &Path| dir.display().to_string();
    let mut lines = vec![format!("Relay on port {port}, store {store}, in {}.", place(dir))];
    if let Some(port) = relay.metrics_port {
        lines.push(format!("Metrics and health on port {port}."));
    }
    lines.extend(relay.caution.map(|caution| format!("warning: {caution}")));
    lines.push("Devices use it by this address: kin relay use ADDRESS".to_owned());
    if relay.guessed {
        lines.push(format!(
            "hint: {} is this machine's own address; if others reach it by another, say --host NAME",
            relay.address.host()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_damaged_one_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let first = identity(&Options::default(), &state).unwrap().key();
        assert_eq!(identity(&Options::default(), &state).unwrap().key(), first);
        state.replace(KEY_FILE, b"kin-relay-key-1qqqq").unwrap();
        let damaged = identity(&Options::default(), &state).err().unwrap();
        assert_eq!(damaged.kind(), "state");
        assert_eq!(state.read(KEY_FILE).unwrap().unwrap(), b"kin-relay-key-1qqqq");
    }

    #[test]
    fn a_key_that_is_missing_beside_a_store_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.create(STORE_FILE, b"").unwrap();
        let missing = identity(&Options::default(), &state).err().unwrap();
        assert_eq!(missing.kind(), "state");
        assert!(missing.to_string().contains(KEY_FILE), "{missing}");
        assert!(missing.hint().contains("remove relay.db"), "{}", missing.hint());
        assert_eq!(state.read(KEY_FILE).unwrap(), None);
    }

    #[test]
    fn what_to_do_is_said_of_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let lock = state.lock().unwrap();
        let second = state.lock().map_err(in_use).err().unwrap();
        drop(lock);
        let shown = dir.path().canonicalize().unwrap().display().to_string();
        assert!(second.to_string().ends_with(&shown), "{second}");
        assert!(!second.to_string().contains("device"), "{second}");
        assert_eq!((second.kind(), second.is_usage()), ("in_use", false));
        state.create(STORE_FILE, &[7; 8192]).unwrap();
        let opened = Sqlite::open(&dir.path().join(STORE_FILE), Options::default().quotas());
        let damaged = OperateError::Store(opened.err().unwrap());
        assert!(damaged.hint().contains("move relay.db away"), "{}", damaged.hint());
        let full = OperateError::Store(StoreError::DiskFull(String::new()));
        assert!(full.hint().contains("make room"), "{}", full.hint());
    }

    #[test]
    fn the_directory_is_the_first_that_is_named() {
        let var = |names: &'static [(&str, &str)]| {
            move |name: &str| names.iter().find(|it| it.0 == name).map(|it| it.1.into())
        };
        let all: &[(&str, &str)] = &[
            ("STATE_DIRECTORY", "/s"),
            ("KIN_HOME", "/k"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        let none = Options::default();
        assert_eq!(directory(&none, var(all)), Some("/s".into()));
        assert_eq!(directory(&none, var(&all[1..])), Some("/k/relay".into()));
        assert_eq!(directory(&none, var(&all[2..])), Some("/x/kin-relay".into()));
        assert_eq!(directory(&none, var(&all[3..])), Some("/h/.local/state/kin-relay".into()));
        assert_eq!(directory(&none, var(&[])), None);
        let given = Options { dir: Some("/d".into()), ..Options::default() };
        assert_eq!(directory(&given, var(all)), Some("/d".into()));
    }
}

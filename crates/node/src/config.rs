//! What a `kin sync` run is told.

use std::path::PathBuf;

use folder::history;
use identity::Secret;

use crate::DeleteLimit;

/// Who may join without being asked about.
#[derive(Debug)]
pub enum Admission {
    /// A person compares the short authentication string and answers (rule T3).
    Ask,
    /// Whoever completes the handshake (for this side only, rule T7).
    Open,
    /// Whoever knows the passphrase (rule T5).
    Passphrase(Secret<String>),
}

/// One run of `kin sync`.
#[derive(Debug)]
pub struct SyncConfig {
    /// The folder. Must exist and be a directory.
    pub dir: PathBuf,
    /// Where this user's device has its keys, if it has a place: no folder may hold it.
    pub keys: Option<PathBuf>,
    /// TCP port; 0 picks a free one.
    pub port: u16,
    /// True if a person asked for this very port: then a taken port is an error, otherwise a free one
    /// is chosen.
    pub port_is_required: bool,
    /// This device's name, 1 to 64 bytes of UTF-8 without control characters.
    pub name: String,
    /// Addresses to dial, `HOST:PORT` each.
    pub peers: Vec<String>,
    /// Advertise and browse by mDNS.
    pub discovery: bool,
    /// Extra ignore patterns, gitignore syntax.
    pub excludes: Vec<String>,
    /// Only devices with the same topic meet; empty is a topic like any other.
    pub topic: String,
    /// Who may join.
    pub admission: Admission,
    /// Large files fetched at once, 1 to 64.
    pub max_concurrent_transfers: usize,
    /// How many deletions within 24 hours go without a question (rule E19).
    pub max_deletes: DeleteLimit,
    /// True if a person agrees beforehand to all deletions up to the first agreement with a peer.
    pub accept_deletes: bool,
    /// How much of what was replaced and deleted is kept.
    pub history: history::Limits,
}

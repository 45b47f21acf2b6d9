//! What must hold for any bytes from outside, one check for each decoder.
//!
//! A check takes bytes as the fuzzer makes them and panics if a property does not hold. The fuzz targets
//! (`fuzz/`) run them on what they invent, the test of this crate on the corpora that are kept there.
//! For tests only: nothing that is shipped uses it.

mod ceremonies;
mod codes;
mod contents;
mod keys;
mod members;
mod messages;
mod relays;
mod settings;
mod texts;
mod tokens;

// What the reader of the configuration file is made of; paths in it start at its crate's root.
#[path = "../../kin/src/config.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod config;
#[path = "../../kin/src/error.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod error;
#[path = "../../kin/src/escape.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod escape;

// What a relay's address and the frames of its streams are read by: the rest of that crate is a server.
#[path = "../../relay/src/address.rs"]
#[allow(dead_code, unreachable_pub, reason = "the relay uses all of it, and exports it")]
mod relay_address;
#[path = "../../relay/src/frames.rs"]
#[allow(dead_code, unreachable_pub, reason = "the relay uses all of it, and exports it")]
mod relay_frames;

/// One decoder's check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Name of the fuzz target and of its corpus.
    pub name: &'static str,
    /// Panics if something does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Most bytes on the heap at once for each byte of input, all that the check itself makes included.
    pub factor: usize,
    /// As many more, whatever the input.
    pub constant: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// All checks.
pub const CHECKS: [Check; 21] = [
    Check { name: "frame", run: messages::frame, factor: 100, constant: 64 * KIB },
    Check { name: "session", run: messages::session, factor: 100, constant: 64 * KIB },
    Check { name: "sync", run: messages::sync, factor: 100, constant: 64 * KIB },
    Check { name: "record", run: messages::record, factor: 100, constant: 64 * KIB },
    Check { name: "merkle", run: messages::merkle, factor: 100, constant: 64 * KIB },
    Check { name: "list", run: contents::list, factor: 100, constant: 64 * KIB },
    Check { name: "piece", run: contents::piece, factor: 600, constant: 4 * MIB },
    Check { name: "index", run: contents::index, factor: 100, constant: 64 * KIB },
    Check { name: "advert", run: texts::advert, factor: 100, constant: 64 * KIB },
    Check { name: "ignore", run: texts::ignore, factor: 4 * KIB, constant: 32 * MIB },
    Check { name: "config", run: settings::config, factor: 4 * KIB, constant: 64 * KIB },
    Check { name: "pairing", run: ceremonies::pairing, factor: 100, constant: 256 * KIB },
    Check { name: "group", run: members::group, factor: 300, constant: 64 * KIB },
    Check { name: "envelope", run: tokens::envelope, factor: 100, constant: 512 * KIB },
    Check { name: "token", run: tokens::token, factor: 100, constant: 64 * KIB },
    Check { name: "window", run: tokens::window, factor: 100, constant: 256 * KIB },
    Check { name: "code", run: codes::code, factor: 100, constant: 64 * KIB },
    Check { name: "ssh", run: keys::message, factor: 100, constant: 64 * KIB },
    Check { name: "key", run: keys::key, factor: 100, constant: 64 * KIB },
    Check { name: "connecto", run: keys::connecto, factor: 200, constant: 256 * KIB },
    Check { name: "relay", run: relays::relay, factor: 100, constant: 128 * KIB },
];

/// The check of that name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn named(name: &str) -> Check {
    let found = CHECKS.into_iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("there is no check {name}"))
}

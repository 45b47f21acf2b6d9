//! A user's SSH files: own keys, who may come in, and where one may go.
//!
//! [`Home`] is the door to `~/.ssh`, through crate `tree`. What is written where:
//!
//! | file | what of it is ours |
//! |---|---|
//! | `authorized_keys` | one line for each device that may come in ([`Access`]) |
//! | `known_hosts` | a line for each host key of a device that can be reached ([`Host`]), under its alias |
//! | `config` | one `Include` line, the first of the file |
//! | `kinfold_config` | all of it: a `Host` block for each alias |
//! | `kinfold_ed25519`, `kinfold_rsa` and their `.pub` | the keys that were made here ([`OwnKey`]) |
//!
//! A line is ours if one of its words is our [`Tag`], `kinfold:TAG`, and it is no remark. In `authorized_keys` and
//! `known_hosts` the tag is in the comment at the line's end, and names the device that the line is for: what
//! was installed for a device is what has its tag, and taking it away is taking away lines with the tag, also
//! if a person has edited them. Nothing else is written down anywhere, so there is no list that could say
//! something else than the files. Lines that are not ours stay as they are, byte for byte.
//!
//! What comes from outside is [parsed](PublicKey::parse) and written anew from its parts.
//!
//! These know nothing of links, ceremonies or who is to be trusted; who calls them has asked a person. [`meet`]
//! does so: it is how two devices come to exchange keys. [`scan`] says who listens, and [`connecto`] is another
//! program's protocol.

mod access;
mod alias;
pub mod connecto;
mod error;
mod home;
mod hosts;
mod judge;
mod key;
mod known;
mod local;
pub mod meet;
mod own;
pub mod scan;
mod sessions;
mod settings;
mod tag;
mod text;
mod used;

pub use access::{Access, Allowed};
pub use alias::{Alias, AliasError};
pub use error::SshError;
pub use home::{Home, Installed, Reached};
pub use hosts::{Host, HostName};
pub use key::{KeyError, MAX_KEY_LINE, PublicKey};
pub use local::{Local, Sshd, openssh_version};
pub use own::{KeyKind, OwnKey};
pub use sessions::open_sessions;
pub use settings::{Here, Settings};
pub use tag::{Tag, TagError};
pub use text::{Cidr, CidrError, UserName, UserNameError};

//! Links between devices: TLS over TCP, listening, dialling, limits on strangers, and finding others
//! on the local network.
//!
//! An [`Endpoint`] is this device's end of every link; it dials, and a [`Listener`] lets others in.
//! Either way what comes out is a [`Link`] whose other end has proven that it holds the key of its
//! [`identity::DeviceId`]. What it is not: it trusts nobody. Whether that device belongs to a group is
//! asked elsewhere, on every new link; until then frames are small ([`wire::frame::MAX_STRANGER_FRAME`])
//! and connections, handshakes and time are bounded by [`Limits`].

mod buffered;
mod carrier;
mod discovery;
mod endpoint;
mod error;
mod limits;
mod link;
mod listener;
mod socket;
mod tls;

pub use carrier::Through;
#[doc(hidden)]
pub use discovery::reread_advert;
pub use discovery::{Advert, Asking, Discovery, Found, Plain, PlainFound, own_addresses};
pub use endpoint::Endpoint;
pub use error::LinkError;
pub use limits::{Limits, Source};
pub use link::{LONG_WAY, Link, LinkReader, LinkWriter};
pub use listener::{Door, Listener, Visitor};
pub use tls::Protocol;

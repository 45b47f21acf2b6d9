//! A folder's share of a link.

use identity::DeviceId;
use wire::{
    frame::{Channel, Payload},
    session::Farewell,
};

use crate::line::{FrameReceiver, FrameSender};

/// The two ends of a folder's channel to a peer.
#[derive(Debug)]
pub(crate) struct FolderLink {
    /// What the peer calls itself (unescaped).
    pub(crate) name: String,
    /// Whose link it is, as it was authenticated; `None` in a session.
    pub(crate) device: Option<DeviceId>,
    /// To it.
    pub(crate) out: FolderSender,
    /// From it.
    pub(crate) input: FrameReceiver,
}

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct FolderSender {
    /// The link, which other folders may use as well.
    pub(crate) link: FrameSender,
    /// This side's number for the folder.
    pub(crate) slot: u8,
}

impl FolderSender {
    /// Queues a payload; never blocks. False if the link is closing or gone.
    pub(super) fn send(&self, payload: Payload) -> bool {
        self.link.send(Channel::Folder(self.slot), payload)
    }

    /// Bytes that are queued on the link, for whichever folder.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.link.queued_bytes()
    }

    /// Has a function called whenever the link's queue runs low, and when the link ends.
    pub(super) fn on_low_water(&self, call: impl Fn() + Send + Sync + 'static) {
        self.link.on_low_water(call);
    }

    /// Ends the link without a word, as if it had broken: the devices link again.
    pub(super) fn cut(&self) {
        self.link.close_with(None);
    }

    /// Ends the link.
    pub(super) fn close(&self, reason: Farewell) {
        self.link.close(reason);
    }
}

//! What says to which link a further connection belongs (rule E24).

use crate::Hash;

/// Key material of a link or a strand, equal at both ends and known to nobody else.
type Exporter = [u8; 32];

/// Proof that the sender has both a link and the connection on which it sends this. Another on each
/// connection, and another each way. Compared in constant time.
#[derive(Clone, Copy, Eq, Debug)]
pub struct StrandTag(pub [u8; 32]);

impl StrandTag {
    /// What the side says that dialled.
    #[must_use]
    pub fn offer(link: &Exporter, strand: &Exporter) -> Self {
        Self(Hash::derived("kinfold 2026-11 strand offer", &[link, strand]).0)
    }

    /// What the other side answers.
    #[must_use]
    pub fn answer(link: &Exporter, strand: &Exporter) -> Self {
        Self(Hash::derived("kinfold 2026-11 strand answer", &[link, strand]).0)
    }
}

impl PartialEq for StrandTag {
    fn eq(&self, other: &Self) -> bool {
        // This type of blake3 is compared in constant time.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_one_link_one_connection_and_one_direction() {
        let (link, strand) = ([1; 32], [2; 32]);
        let tag = StrandTag::offer(&link, &strand);
        assert_eq!(tag, StrandTag::offer(&link, &strand));
        assert_ne!(tag, StrandTag::answer(&link, &strand));
        assert_ne!(tag, StrandTag::offer(&[3; 32], &strand));
        assert_ne!(tag, StrandTag::offer(&link, &[3; 32]));
        assert_ne!(tag, StrandTag::offer(&strand, &link));
    }
}

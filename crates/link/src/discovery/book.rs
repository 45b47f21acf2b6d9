//! Which adverts are known, and what of them has yet to be told. Pure, and bounded whatever is heard.

use std::{collections::VecDeque, net::SocketAddr};

use identity::DeviceId;

use super::text::run_mac;

/// Most adverts that are known at once; the oldest is forgotten first.
pub(crate) const MAX_KNOWN: usize = 256;
/// Most news that wait while nobody takes them.
const MAX_NEWS: usize = 2 * MAX_KNOWN;

/// An advert that was heard, changed or gone. All of it is a hint: whoever is dialled by it may be
/// anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Found {
    /// What the device calls itself, 1 to 64 bytes without control characters; not escaped.
    pub name: String,
    /// Where it may be reached, best first, at most 16. Empty if it is gone.
    pub addrs: Vec<SocketAddr>,
    /// The advert's own name: the same in all news about it, new for every run.
    pub instance: String,
    /// The advert was withdrawn, or has expired, or was forgotten for newer ones.
    pub gone: bool,
    pub(crate) run: [u8; 16],
    pub(crate) mac: [u8; 16],
}

impl Found {
    /// What an advert of a device says: for tests of what is made of it.
    #[doc(hidden)]
    #[must_use]
    pub fn told(device: DeviceId, name: &str, addr: SocketAddr, run: [u8; 16]) -> Self {
        let mac = run_mac(device, &run);
        let (name, instance) = (name.to_owned(), super::text::to_hex(&mac));
        Self { name, addrs: vec![addr], instance, gone: false, run, mac }
    }

    /// True if the advert claims to be of this device (rule T2). Anybody who knows the device id can
    /// claim so.
    #[must_use]
    pub fn claims_to_be(&self, device: DeviceId) -> bool {
        self.mac == run_mac(device, &self.run)
    }
}

/// The known adverts and the news about them.
#[derive(Default)]
pub(crate) struct Book {
    known: VecDeque<Found>,
    news: VecDeque<Found>,
}

impl Book {
    /// An advert was heard, perhaps again.
    pub(crate) fn heard(&mut self, found: Found) {
        match self.known.iter_mut().find(|known| known.instance == found.instance) {
            Some(known) if *known == found => return,
            Some(known) => *known = found.clone(),
            None => {
                self.known.push_back(found.clone());
                if self.known.len() > MAX_KNOWN
                    && let Some(oldest) = self.known.pop_front()
                {
                    self.tell_gone(oldest);
                }
            }
        }
        self.tell(found);
    }

    /// An advert was withdrawn or has expired.
    pub(crate) fn lost(&mut self, instance: &str) {
        if let Some(at) = self.known.iter().position(|known| known.instance == instance)
            && let Some(found) = self.known.remove(at)
        {
            self.tell_gone(found);
        }
    }

    /// The oldest news that were not told yet.
    pub(crate) fn news(&mut self) -> Option<Found> {
        self.news.pop_front()
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    fn tell_gone(&mut self, found: Found) {
        self.tell(Found { gone: true, addrs: Vec::new(), ..found });
    }

    /// Newer news about an advert replace those that were not told yet.
    fn tell(&mut self, found: Found) {
        self.news.retain(|news| news.instance != found.instance);
        self.news.push_back(found);
        if self.news.len() > MAX_NEWS {
            self.news.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(instance: usize, port: u16) -> Found {
        Found {
            name: "a".to_owned(),
            addrs: vec![([192, 0, 2, 1], port).into()],
            instance: instance.to_string(),
            gone: false,
            run: [0; 16],
            mac: run_mac(DeviceId([1; 32]), &[0; 16]),
        }
    }

    fn all(book: &mut Book) -> Vec<Found> {
        std::iter::from_fn(|| book.news()).collect()
    }

    #[test]
    fn news_are_told_once_and_the_latest_only() {
        let mut book = Book::default();
        book.heard(found(1, 1));
        book.heard(found(1, 1));
        assert_eq!(all(&mut book), [found(1, 1)]);
        book.heard(found(1, 1));
        assert!(!book.has_news());
        book.heard(found(1, 2));
        book.heard(found(1, 3));
        assert_eq!(all(&mut book), [found(1, 3)]);
        book.heard(found(1, 4));
        book.lost("1");
        book.lost("1");
        book.lost("2");
        let news = all(&mut book);
        assert_eq!(news.len(), 1);
        assert!(news[0].gone && news[0].addrs.is_empty());
        book.heard(found(1, 4));
        assert_eq!(all(&mut book), [found(1, 4)]);
    }

    #[test]
    fn attack_12_ten_thousand_fake_devices_cost_no_more_than_the_bound() {
        let mut book = Book::default();
        for instance in 0..10_000 {
            book.heard(found(instance, 1));
            assert!(book.known.len() <= MAX_KNOWN && book.news.len() <= MAX_NEWS);
        }
        assert!(all(&mut book).iter().any(|news| news.instance == "9999" && !news.gone));
        assert_eq!(book.known.front().unwrap().instance, (10_000 - MAX_KNOWN).to_string());
    }

    #[test]
    fn t2_members_recognise_each_other() {
        assert!(found(1, 1).claims_to_be(DeviceId([1; 32])));
        assert!(!found(1, 1).claims_to_be(DeviceId([2; 32])));
    }
}

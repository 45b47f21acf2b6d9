//! Devices on one machine find each other. Needs multicast; says so loudly where there is none.

use identity::DeviceId;
use link::{Advert, Discovery, Found, LinkError};
use tokio::{sync::mpsc::Receiver, time::timeout};

use crate::common::{LONG, key};

/// An advert of a topic that no other test uses.
fn advert(seed: u8, topic: &str) -> Advert {
    let topic = format!("{topic} of process {}", std::process::id());
    let device = key(seed).id();
    Advert {
        device,
        name: format!("device {seed}"),
        topic,
        port: 9000 + u16::from(seed),
        run: [seed; 16],
    }
}

fn start(advert: &Advert) -> Option<(Discovery, Receiver<Found>)> {
    match Discovery::start(advert) {
        Ok(started) => Some(started),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

async fn next(news: &mut Receiver<Found>) -> Found {
    timeout(LONG, news.recv()).await.expect("news in time").expect("the search goes on")
}

#[tokio::test]
async fn two_devices_find_each_other_and_hear_the_goodbye() {
    let (one, other) = (advert(1, "pair"), advert(2, "pair"));
    let Some((first, mut news_of_first)) = start(&one) else { return };
    let Some((second, mut news_of_second)) = start(&other) else { return };
    let found = next(&mut news_of_first).await;
    assert_eq!((found.name.as_str(), found.gone), ("device 2", false));
    assert!(found.addrs.iter().all(|addr| addr.port() == 9002), "{:?}", found.addrs);
    assert!(found.claims_to_be(other.device));
    assert!(!found.claims_to_be(DeviceId([0; 32])));
    assert!(!found.instance.contains("device"), "the advert's own name is random");
    assert_eq!(next(&mut news_of_second).await.name, "device 1");

    second.stop().await;
    let gone = loop {
        let news = next(&mut news_of_first).await;
        if news.gone {
            break news;
        }
    };
    assert_eq!(gone.instance, found.instance);
    first.stop().await;
}

#[tokio::test]
async fn other_topics_are_not_reported() {
    let Some((first, mut news)) = start(&advert(1, "mine")) else { return };
    let Some((second, _)) = start(&advert(2, "theirs")) else { return };
    let Some((third, _)) = start(&advert(3, "mine")) else { return };
    // The third came last, so the second was heard before it, and has time to be heard again until
    // the third is gone.
    let mut third = Some(third);
    loop {
        let found = next(&mut news).await;
        assert_eq!(found.name, "device 3");
        if found.gone {
            break;
        }
        if let Some(third) = third.take() {
            third.stop().await;
        }
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn an_advert_that_nobody_could_read_is_not_made() {
    let wrong = [
        Advert { name: "line\nbreak".to_owned(), ..advert(1, "x") },
        Advert { name: String::new(), ..advert(1, "x") },
        Advert { port: 0, ..advert(1, "x") },
    ];
    for advert in wrong {
        match Discovery::start(&advert).map(|_| ()) {
            Err(LinkError::Discovery(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

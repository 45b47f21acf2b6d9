//! Strands between devices of a group. Here every way counts as long.
#![allow(clippy::disallowed_methods, reason = "the tests play the people who own the files")]

use std::{fs, time::Duration};

use identity::{DeviceKey, Secret};
use tokio::time::timeout;

use super::{
    hub::random,
    links::Conn,
    tests::{Lab, PATIENCE, pair},
    *,
};
use crate::api::Which;

/// True if a link is accepted.
async fn is_linked(lab: &Lab) -> bool {
    let linked = lab.device.hub.with(|hub| hub.conns.values().any(Conn::is_accepted));
    linked.await.expect("the device runs")
}

/// True if strands have taken all places beside a link that came in.
async fn is_full(lab: &Lab) -> bool {
    let full = lab.device.hub.with(|hub| {
        let mut came_in =
            hub.conns.values().filter(|conn| conn.is_accepted() && !conn.line.dialled);
        came_in.any(|conn| !conn.line.takes_strands())
    });
    full.await.expect("the device runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn e24_members_have_strands_strangers_have_none_and_folders_see_no_difference() {
    let (laptop, phone) = (Lab::new("laptop").await, Lab::new("phone").await);
    pair(&laptop, &phone, Which::Mine).await;
    laptop
        .until("they are linked", || async { is_linked(&laptop).await && is_linked(&phone).await })
        .await;
    let key = DeviceKey::from_seed(&Secret::new(random().unwrap())).unwrap();
    let stranger = Endpoint::new(&Arc::new(key), Limits::default()).unwrap();
    for lab in [&laptop, &phone] {
        let addr = ([127, 0, 0, 1], lab.port).into();
        let (mut reader, _writer) = stranger.dial_strand(addr).await.unwrap().split();
        let heard = timeout(PATIENCE, reader.next()).await.expect("it is closed");
        assert!(matches!(heard, Ok(None) | Err(_)), "{heard:?}");
        assert!(!is_full(lab).await);
        let opened = lab.device.hub.with(|hub| {
            let endpoint = &hub.net.as_ref().expect("it is online").endpoint;
            for conn in hub.conns.values().filter(|conn| conn.is_accepted()) {
                conn.line.open_strands_beyond(Duration::ZERO, endpoint);
            }
        });
        opened.await.expect("the device runs");
    }
    laptop
        .until("three strands stand", || async { is_full(&laptop).await || is_full(&phone).await })
        .await;
    let source = laptop.share("Documents").await;
    phone.knows_folder("Documents").await;
    let target = phone.join("Documents").await;
    let (there, back) = ("there ".repeat(1 << 20), "back ".repeat(1 << 20));
    fs::write(source.join("there"), &there).unwrap();
    phone.file(&target.join("there"), &there).await;
    fs::write(target.join("back"), &back).unwrap();
    laptop.file(&source.join("back"), &back).await;
    assert!(is_full(&laptop).await || is_full(&phone).await, "it is the same link still");
}

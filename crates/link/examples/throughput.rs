//! How fast one link is on this machine: frames of 1 MiB over loopback, and many small ones.
//!
//! `cargo run --release -p link --example throughput`

#![expect(clippy::print_stdout, reason = "what it measures goes to standard output")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use identity::{DeviceKey, Secret};
use link::{Endpoint, Limits, LinkReader, LinkWriter, Listener};
use wire::frame::{Channel, MAX_FRAME};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let endpoint = |seed: u8| -> Result<_, Failure> {
        let key = Arc::new(DeviceKey::from_seed(&Secret::new([seed; 32]))?);
        Ok(Arc::new(Endpoint::new(&key, Limits::default())?))
    };
    let mut listener = Listener::bind(endpoint(2)?, 0).await?;
    let client = endpoint(1)?;
    for (size, count) in [(1 << 20, 8 << 10), (64 << 10, 64 << 10), (1 << 10, 1 << 20)] {
        let dialled = client.dial(([127, 0, 0, 1], listener.port()).into()).await?;
        let key_exchange = dialled.key_exchange().to_owned();
        let accepted = listener.accept().await.ok_or("the listener ended")?;
        let (reader, _keep) = accepted.split();
        let (_keep, writer) = dialled.split();
        let begin = Instant::now();
        let sending = tokio::spawn(send(writer, size, count));
        let received = receive(reader).await?;
        sending.await??;
        report(size, received, begin.elapsed(), &key_exchange);
    }
    Ok(())
}

async fn send(mut writer: LinkWriter, size: usize, count: usize) -> Result<(), link::LinkError> {
    let payload = vec![0x5a; size];
    for _ in 0..count {
        writer.send(Channel::Folder(0), &payload).await?;
    }
    writer.close().await;
    Ok(())
}

async fn receive(mut reader: LinkReader) -> Result<u64, link::LinkError> {
    reader.set_limit(MAX_FRAME);
    let mut bytes = 0;
    while let Some((_, frame)) = reader.next().await? {
        bytes += frame.len() as u64;
    }
    Ok(bytes)
}

fn report(size: usize, bytes: u64, took: Duration, key_exchange: &str) {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    let speed = mebibytes / took.as_secs_f64();
    println!(
        "frames of {size:>7} bytes: {mebibytes:>6.0} MiB, {speed:>6.0} MiB/s ({key_exchange})"
    );
}

//! Advertises this machine and says who is found, until standard input ends.
//!
//! `cargo run -p link --example discover [NAME]`

use identity::DeviceId;
use link::{Advert, Discovery};
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "somebody".to_owned());
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let mut run = [0; 16];
    getrandom::fill(&mut run).map_err(|error| error.to_string())?;
    let advert =
        Advert { device: DeviceId(random), name, topic: "discover".to_owned(), port: 9000, run };
    let (discovery, mut news) = Discovery::start(&advert)?;
    let mut input = tokio::io::stdin();
    let mut byte = [0];
    loop {
        tokio::select! {
            Some(found) = news.recv() => println!("{found:?}"),
            read = input.read(&mut byte) => if read? == 0 { break },
        }
    }
    discovery.stop().await;
    Ok(())
}

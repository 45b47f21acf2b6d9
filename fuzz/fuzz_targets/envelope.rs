#![no_main]
fuzz::target!("envelope");

#![no_main]
fuzz::target!("pairing");

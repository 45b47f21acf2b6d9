#![no_main]
fuzz::target!("piece");

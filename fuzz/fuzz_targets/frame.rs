#![no_main]
fuzz::target!("frame");

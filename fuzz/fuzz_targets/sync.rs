#![no_main]
fuzz::target!("sync");

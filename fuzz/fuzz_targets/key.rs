#![no_main]
fuzz::target!("key");

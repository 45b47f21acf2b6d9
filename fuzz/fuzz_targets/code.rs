#![no_main]
fuzz::target!("code");

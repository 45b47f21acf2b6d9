#![no_main]
fuzz::target!("ssh");

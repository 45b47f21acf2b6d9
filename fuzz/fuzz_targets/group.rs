#![no_main]
fuzz::target!("group");

#![no_main]
fuzz::target!("relay");

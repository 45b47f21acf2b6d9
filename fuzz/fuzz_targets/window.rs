#![no_main]
fuzz::target!("window");

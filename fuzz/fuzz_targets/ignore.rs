#![no_main]
fuzz::target!("ignore");

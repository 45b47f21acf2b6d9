#![no_main]
fuzz::target!("connecto");

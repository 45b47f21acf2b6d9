#![no_main]
fuzz::target!("advert");

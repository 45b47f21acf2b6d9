//! Two devices on one machine exchange keys over real links; and what strangers can do to that.

mod common;
mod connecto;
mod hostile;
mod two;

//! The membership log: its rules (T10 to T15), attacks on it, and properties over random histories.

mod attacks;
mod bounds;
mod exchange;
mod history;
mod joining;
mod properties;
mod removal;
mod rotation;
mod scope;

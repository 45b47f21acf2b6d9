//! The membership log: a set of signed operations, and what it comes to.
//!
//! A [`Log`] takes operations in any order; [`Log::manifest`] says what they come to. It is pure, and
//! knows neither ceremonies nor storage nor links. docs/protocol.md, "Membership log", says the rules
//! again, for a second implementation.
//!
//! # What may be in a log
//!
//! Whether an operation is taken in follows from itself and its own past (its ancestors), never from
//! what else is here: its author was admitted by something there, its number follows its author's last,
//! the parents it names are heads, and all bounds hold. So two devices that hold the same operations
//! were never divided about one of them. Two limits are the store's own: how many operations it holds
//! ([`MAX_OPERATIONS`]) and how many may wait for others ([`MAX_PENDING`], and
//! [`MAX_PENDING_EACH`] by who brings them).
//!
//! # What counts
//!
//! A *device* is all keys that rotations tie together which are not void. An author needs that its key is
//! a member's and, for all but leaving, rotating and naming itself, that its device is an admin. Such a
//! right is given by *grants* (create, admit, rotate; for roles also set-role) and taken by *takings* (remove, leave,
//! rotate; for roles also any statement of a lower one). An operation counts if for each right that it
//! needs there is a grant in its own past which counts and which is not *cut*: every taking that takes
//! effect was written after the operation, or was known to the grant. A taking that the operation's
//! author had not seen cuts as well as one that it had: that is strong removal, and back-dating an
//! operation gains nothing. What rests on a void grant finds no grant, and so is void.
//!
//! These conditions speak of each other, so they are judged by what is sure. Yes: a grant counts, and
//! whatever could cut it is void. No: every grant is void, or cut by a taking that counts. This is done
//! again and again until nothing moves. What is open then hangs on takings each of which would undo the
//! other, directly or over what they rest on: it is *contested*. A contested operation takes what it
//! takes and gives nothing. So mutual and cyclic removals all take effect, and nothing that those
//! authors granted at the same time does (rule T11). A rotation takes the old key's right, so two
//! rotations of one key contest each other and leave the device without a key (rule T13), with no rule
//! of their own.
//!
//! **Doubt lets nobody in.** A removal by somebody who is himself in a mutual removal is contested, and
//! stays in force. The other way, to void it, looks kinder and is a hole: whoever has stolen two devices
//! which one remover put out could remove the remover by the one, dated back, and so bring the other one
//! back. The two cases (the thief's removals and the remover's) look the same, so both stay in force:
//! a thief can put devices out, which another admin or [`rescue`] mends, and can never stay or return.
//!
//! # Why the order of arrival does not matter
//!
//! Causes, devices and conditions are functions of the set. One step of judging is monotone: what it
//! finds sure from some judgements it also finds from more of them. So it has one least fixed point,
//! whatever the order of work, and what is open in the end is a function of the set as well. Where the
//! manifest must choose (a name, an inbox key) it chooses by causes, then by operation id. Judging only
//! the newest operation is the same as judging all: it lies in nobody's past, so nobody rests on it, and
//! if it takes something from an author whose operation it has not seen, all are judged anew.
//!
//! # Why a stolen key does not win, not even a founder's
//!
//! No rule asks who was there first, whose id is lower or how many agree. Let X's key be stolen and r a
//! removal of X by somebody with the right to it. Everything by X that r has not seen is cut, however it
//! is dated, with all that rests on it: puppets, their puppets, promotions, rotations to new keys. The
//! only way to keep r from counting is a taking that cuts r's author or what r's right rests on. If that
//! taking is X's, or rests on X, then r cuts it in turn; so both are contested, and r takes effect all
//! the same. For r to be *void*, a taking that counts must cut it, and such a taking owes nothing to
//! anything that r cuts: it is that of an admin whom nobody removed, whom the group still trusts. Nor
//! does any grant of X or of what rests on X count: a grant counts only if whatever cuts it is void.
//!
//! What this costs: a removed admin who strikes back at its remover can also put out others, by dating
//! removals back or by taking back what it did itself, a founder's key all of them; nobody gets in by
//! that, and [`rescue`] begins a new group. And who was an admin and is
//! a member still can take back what it did itself, by leaving or rotating on old heads: whom nobody
//! trusts is removed, not demoted.

mod derive;
mod facts;
mod join;
mod judge;
mod manifest;
mod past;
mod settle;
mod store;
mod waiting;
mod write;

pub use join::{JoinError, PendingJoin, join};
pub use manifest::{Epoch, Folder, Fork, Former, Gone, Manifest, Member, VoidOperation, Why};
pub use store::{Log, LogError, Taken};
pub use write::{WriteError, create, rescue};

/// Most operations in the past of one.
pub const MAX_PAST: usize = 16_384;
/// Most operations of one key in the past of one of them.
pub const MAX_SEQUENCE: usize = 4_096;
/// Most grants (create, admit, rotate) in the past of another one: devices over a group's whole life.
pub const MAX_ADMISSIONS: usize = 1_024;
/// Most operations that add a folder in the past of another one.
pub const MAX_FOLDERS: usize = 1_024;
/// Most operations a log holds, concurrent ones included.
pub const MAX_OPERATIONS: usize = 32_768;
/// Most operations that wait for others.
pub const MAX_PENDING: usize = 1_024;
/// Most of these that one device brought; a newer one takes the place of its oldest.
pub const MAX_PENDING_EACH: usize = 64;

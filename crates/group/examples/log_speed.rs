//! How long a membership log of 10,000 operations takes: to check signatures, to take in, to resolve from
//! scratch, and after one more operation. Prints milliseconds.
//!
//! `cargo run --release -p group --example log_speed`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use group::log::{Log, Manifest, create};
use identity::{DeviceId, DeviceKey, InboxId, Secret};
use wire::{
    membership::{
        Action, Ceremony, FolderId, Operation, OperationId, Role, Scope, SignedOperation,
    },
    session::Name,
};

const OPERATIONS: usize = 10_000;
/// Devices of which two write at a time, so that every second operation has a concurrent one.
const DEVICES: usize = 40;

fn key(number: usize) -> DeviceKey {
    let seed = [u8::try_from(number).expect("few"); 32];
    DeviceKey::from_seed(&Secret::new(seed)).expect("any seed is a key")
}

fn number_of(seed: usize) -> DeviceId {
    key(seed % DEVICES).id()
}

fn action(step: usize) -> Action {
    let name = Name::new(&format!("name {step}")).expect("short");
    let victim = number_of(1 + step % (DEVICES - 1));
    match step % 10 {
        0 if step < 800 => {
            let (device, inbox) = (number_of(step / 10 + 1), InboxId([1; 32]));
            let (role, folders, ceremony) = (Role::Admin, Scope::All, Ceremony::Lan);
            Action::Admit { device, inbox, name, role, folders, ceremony }
        }
        1 if step % 100 == 1 => Action::Remove { device: victim },
        2 | 3 => Action::SetRole { device: victim, role: Role::Admin },
        4 if step < 8_000 => {
            let mut folder = [0; 32];
            folder[..8].copy_from_slice(&step.to_be_bytes());
            Action::FolderAdded { folder: FolderId(folder), name }
        }
        _ => Action::Rename { device: victim, name },
    }
}

/// Two branches at a time, which the next operation joins.
fn history() -> (Log, Vec<SignedOperation>) {
    let name = Name::new("founder").expect("short");
    let log = create(&key(0), InboxId([1; 32]), name, [7; 32]).expect("within bounds");
    let mut all: Vec<SignedOperation> = log.operations().cloned().collect();
    let mut heads = log.heads();
    let mut taker = log.clone();
    let mut step = 0;
    while all.len() < OPERATIONS {
        let mut next = Vec::new();
        for side in 0..2 {
            step += 1;
            let author = if step < 800 { 0 } else { (step + side * 7) % DEVICES };
            let Some(signed) = written(&taker, author, &heads, &action(step)) else { continue };
            if taker.insert(signed.clone()).is_ok() {
                next.push(signed.id());
                all.push(signed);
            }
            if step < 800 {
                break;
            }
        }
        if !next.is_empty() {
            next.sort_unstable();
            heads = next;
        }
    }
    (log, all)
}

fn written(
    log: &Log,
    author: usize,
    on: &[OperationId],
    action: &Action,
) -> Option<SignedOperation> {
    // The log says which number would have been right.
    let key = key(author);
    let draft = |sequence| Operation {
        group: Some(log.group()),
        author: key.id(),
        sequence,
        parents: on.to_vec(),
        action: action.clone(),
    };
    match log.sequence(&draft(1)) {
        0 => None,
        sequence => draft(sequence).sign(&key).ok(),
    }
}

fn main() {
    let (empty, all) = history();
    println!("{} operations", all.len());
    let started = Instant::now();
    let parsed: Vec<SignedOperation> = (all.iter())
        .map(|signed| SignedOperation::parse(signed.bytes().clone()).expect("it was signed"))
        .collect();
    println!("parse and check signatures: {} ms", started.elapsed().as_millis());

    let mut log = Log::new(empty.group());
    let started = Instant::now();
    for signed in &parsed[..parsed.len() - 1] {
        log.insert(signed.clone()).expect("it was taken before");
    }
    println!("take in: {} ms", started.elapsed().as_millis());
    let started = Instant::now();
    let manifest = log.manifest();
    println!("manifest after that: {} ms", started.elapsed().as_millis());

    log.judge_anew();
    let started = Instant::now();
    assert!(log.manifest() == manifest, "judged otherwise");
    println!("judge all and make the manifest: {} ms", started.elapsed().as_millis());

    let started = Instant::now();
    log.insert(parsed[parsed.len() - 1].clone()).expect("it was taken before");
    let manifest = log.manifest();
    println!("one more operation, and the manifest: {} ms", started.elapsed().as_millis());
    report(&manifest);
    hostile();
}

/// Two devices that strike at each other two thousand times each, on one old head, and at all others.
fn hostile() {
    let name = Name::new("founder").expect("short");
    let mut log = create(&key(0), InboxId([1; 32]), name, [8; 32]).expect("within bounds");
    for step in (0..60).step_by(10) {
        let signed = written(&log, 0, &log.heads(), &action(step)).expect("a head");
        log.insert(signed).expect("in order");
    }
    let heads = log.heads();
    for strike in 0..2_000 {
        for (author, other) in [(1, 2), (2, 1)] {
            let device = number_of(if strike % 2 == 0 { other } else { strike % 6 });
            let role = if strike % 3 == 0 { Role::Writer } else { Role::Reader };
            let on = if strike % 5 == 0 { log.heads() } else { heads.clone() };
            let strike = match strike % 7 {
                0 => Action::SetRole { device, role },
                _ => Action::Remove { device },
            };
            let on: Vec<OperationId> = on.into_iter().take(30).collect();
            let signed = written(&log, author, &on, &strike).expect("a head");
            // Equal ones are one operation.
            log.insert(signed).expect("in order");
        }
    }
    log.judge_anew();
    let started = Instant::now();
    let manifest = log.manifest();
    println!("{} hostile ones, judged in {} ms", log.len(), started.elapsed().as_millis());
    report(&manifest);
}

fn report(manifest: &Manifest) {
    println!(
        "members {}, former {}, void {}, contested {}",
        manifest.members.len(),
        manifest.former.len(),
        manifest.void.len(),
        manifest.contested.len()
    );
}

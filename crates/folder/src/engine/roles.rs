//! Who may write, and what follows from it (rules E6, E7 and T15). In a group that lasts, a record counts as
//! long as a device that may write under the present manifest has signed for it.
//!
//! Who signed is kept with each record ([`Seal`]), up to [`MAX_SEALS`] devices. A record without any is here on
//! this device's own word: it made it, or adopted it. A device that may write signs whatever it sends, and needs
//! nobody's seal for that; one that may not passes on the seals of others.
//!
//! When the manifest changes, each record of which no seal counts any more is either adopted (by a device that
//! may write: it now stands on its own word, and is pushed as such) or void: it goes from what is known, and
//! with it from the tree, bytes to history. What this very device had made is not thrown away then: it is a
//! change that stays here (see `apart`). Nothing is remembered of what is void. If somebody who may write has
//! adopted it, it comes back with that word, from there, since fingerprints differ, and a peer of whose
//! records some were refused is asked again; so all devices come to the same records, in whatever order they
//! hear of things.
//!
//! Where nobody is left who may write, nothing is void: there is nobody who could have adopted it, and the last copies
//! would go. What is here stays until somebody may write again, or a new group takes it along.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use identity::DeviceId;
use wire::{
    Hash, RelPath,
    record::{Body, SignedRecord},
    sync::{Batch, MAX_BATCHES, Message},
};

use super::{
    Authority, Effect, Engine, EngineError, Event, Mode, Paths, PeerId, peer::MESSAGE_BYTES,
};
use crate::index::{Index, Known, Lists, Seal, Sealed};

/// Most devices remembered to have signed for a record.
const MAX_SEALS: usize = 4;
/// What is void goes this much later, in milliseconds: others adopt at the same time.
const VOID_AFTER_MS: u64 = 3_000;
/// Most refused paths that are told of.
const MAX_REFUSED: usize = 1_000;
/// Whether this device could sign when records were last judged.
const META: &str = "signs";

/// What roles and modes keep from being in step.
#[derive(Debug, Default)]
pub(super) struct Roles {
    /// Refused changes that were told of.
    refused: HashSet<(RelPath, DeviceId)>,
    /// Changes elsewhere that are not applied ([`Mode::SendOnly`]).
    pub(super) held_back: Paths,
    /// Paths with a change that is not shared; none while a folder is only looked at, where all are.
    pub(super) locals: Paths,
    /// How often `locals` changed.
    pub(super) local_turn: u64,
}

impl Roles {
    /// What an index knows of it.
    pub(super) fn of(index: &mut impl Index, mode: Mode) -> Result<Self, EngineError> {
        let locals = if mode == Mode::Look { Vec::new() } else { index.locals()? };
        Ok(Self { locals: locals.into_iter().collect(), ..Self::default() })
    }

    /// A path has a change that is not shared, or has none.
    pub(super) fn note_local(&mut self, path: &RelPath, is_local: bool, mode: Mode) {
        let changed = match is_local && mode != Mode::Look {
            true => self.locals.insert(path.clone()),
            false => !self.locals.is_empty() && self.locals.remove(path),
        };
        self.local_turn += u64::from(changed);
    }

    /// Who signed for a change of a path that was refused.
    pub(super) fn refused_author(&self, path: &RelPath) -> Option<DeviceId> {
        self.refused.iter().filter(|(refused, _)| refused == path).map(|(_, author)| *author).min()
    }
}

impl<I: Index, A: Authority> Engine<I, A> {
    /// True if this device's signature makes records count.
    pub(super) fn may_sign(&self) -> bool {
        self.authority.may_write(&self.authority.device())
    }

    /// True if what is changed here is shared.
    pub(super) fn publishes(&self) -> bool {
        !matches!(self.options.mode, Mode::ReceiveOnly | Mode::Look) && self.may_sign()
    }

    /// Merges what batches list, and remembers who signed. The others are told of.
    pub(super) fn take_batches(
        &mut self,
        id: PeerId,
        batches: Vec<Batch>,
        counting: &[bool],
        inline: Vec<(u32, Bytes)>,
    ) -> Result<(), EngineError> {
        let mut inline: HashMap<u32, Bytes> = inline.into_iter().collect();
        let mut number = 0;
        for (batch, counts) in batches.into_iter().zip(counting) {
            let Batch { author, signature, records, proof } = batch;
            if !counts {
                number += u32::try_from(records.len()).unwrap_or(u32::MAX);
                self.refuse(id, author, records);
                continue;
            }
            let lists = match proof {
                Some(proof) => Lists::One(proof),
                None => Lists::Whole(records.iter().map(|record| record.hash).collect()),
            };
            let mut listed: Vec<(RelPath, Hash, u32)> = Vec::new();
            for (place, record) in (0..).zip(records) {
                let content = inline.remove(&number);
                number += 1;
                let content = content.filter(|_| matches!(record.record.body, Body::File { .. }));
                let (path, hash) = (record.record.path.clone(), record.hash);
                if self.learn_record(id, record, content)? {
                    listed.push((path, hash, place));
                }
            }
            if self.authority.lasts() {
                self.keep_seal(&Seal { author, signature, lists }, listed)?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, id: PeerId, author: DeviceId, records: Vec<SignedRecord>) {
        self.was_refused(id);
        for record in records {
            let path = record.record.path;
            if self.roles.refused.len() < MAX_REFUSED
                && self.roles.refused.insert((path.clone(), author))
            {
                let from = self.peer_name(Some(id));
                self.effects.push(Effect::Event(Event::Refused { path, from, author }));
            }
        }
    }

    /// Remembers a signature for the records that it is news for.
    fn keep_seal(
        &mut self,
        seal: &Seal,
        listed: Vec<(RelPath, Hash, u32)>,
    ) -> Result<(), EngineError> {
        if seal.author == self.authority.device() {
            return Ok(());
        }
        let mut wanted: BTreeMap<Hash, u32> = BTreeMap::new();
        let mut paths: HashMap<RelPath, u32> = HashMap::new();
        listed.iter().for_each(|(path, ..)| *paths.entry(path.clone()).or_default() += 1);
        for (path, record, place) in listed {
            // What came later in the same batch may have replaced it.
            if paths.get(&path).is_some_and(|times| *times > 1)
                && self.row(&path)?.known.iter().all(|known| known.hash != record)
            {
                continue;
            }
            let sealed = self.index.sealed(&record)?;
            if sealed.iter().any(|sealed| sealed.author == seal.author) {
                continue;
            }
            if sealed.len() >= MAX_SEALS {
                if self.counts(&sealed) {
                    continue;
                }
                self.index.unseal(&record)?;
            }
            wanted.insert(record, place);
        }
        if !wanted.is_empty() {
            self.uncommitted = true;
            self.index.put_seal(seal, &wanted.into_iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn counts(&self, sealed: &[Sealed]) -> bool {
        sealed.iter().any(|sealed| self.authority.may_write(&sealed.author))
    }

    /// The manifest has changed, or may have while nothing ran here.
    pub(super) fn members_changed(&mut self) -> Result<(), EngineError> {
        self.compare_again();
        self.roles.refused.clear();
        let before = self.index.fingerprint(0, 0);
        self.listeners_changed()?;
        if self.authority.lasts() {
            let signs = [u8::from(self.may_sign())];
            let signed = self.index.meta(META)?;
            let lapsed = self.index.sealers()?;
            let lapsed = lapsed.iter().any(|author| !self.authority.may_write(author));
            let lapsed = lapsed || signed.is_none_or(|signed| signed[..] != signs);
            if lapsed && self.authority.anybody_may_write() {
                self.index.put_meta(META, &signs)?;
                self.uncommitted = true;
                self.judge()?;
            }
        }
        self.tell_count_anew()?;
        if self.publishes() {
            self.publish_local()?;
        }
        if self.index.fingerprint(0, 0) != before {
            // What is void may come back at once: peers are to see both.
            self.tell_unsettled(true)?;
        }
        Ok(())
    }

    /// Looks through all records for those that nobody's word stands behind any more.
    fn judge(&mut self) -> Result<(), EngineError> {
        let signs = self.may_sign();
        for bucket in 0..wire::sync::BUCKETS {
            for (path, known) in self.index.bucket(bucket)? {
                let mut void = Vec::new();
                for record in known {
                    let sealed = self.index.sealed(&record.hash)?;
                    if self.counts(&sealed) {
                        continue;
                    }
                    if !signs {
                        void.push((record, sealed.is_empty()));
                    } else if !sealed.is_empty() {
                        self.index.unseal(&record.hash)?;
                        self.outbox.push((SignedRecord::parse(record.bytes)?, None));
                    }
                }
                if !void.is_empty() {
                    self.make_void(path, void)?;
                }
            }
        }
        Ok(())
    }

    /// Forgets records of a path that do not count any more. What this device had made itself, and still
    /// has, it keeps as a change of its own.
    fn make_void(&mut self, path: RelPath, void: Vec<(Known, bool)>) -> Result<(), EngineError> {
        let mut row = self.row(&path)?;
        for (record, on_our_word) in void {
            row.known.retain(|known| known.hash != record.hash);
            let parsed = SignedRecord::parse(record.bytes.clone())?.record;
            // With it goes what had been dropped for its sake, and that may come back.
            self.hearing.count_anew();
            let is_ours = on_our_word || parsed.dot.replica == self.replica;
            let is_here = match &row.here {
                Some(here) => here.shown == record.hash.head() && !here.implied,
                None => !parsed.body.is_live(),
            };
            if is_ours && is_here && row.local.is_none() {
                row.local = Some(record);
                self.tell_local(&path, &row, None)?;
            }
        }
        self.put(&path, &row)?;
        self.forget_above(&path)?;
        self.learn.reconcile_at(path, self.now.ms + VOID_AFTER_MS);
        Ok(())
    }

    /// Sends records to a peer under the signatures of those who may write.
    pub(super) fn pass_on(
        &mut self,
        id: PeerId,
        request: u32,
        mark: u64,
        records: Vec<SignedRecord>,
    ) -> Result<(), EngineError> {
        let mut batches = self.sealed_batches(records)?;
        loop {
            let rest = batches.split_off(batches.len().min(MAX_BATCHES));
            let is_last = rest.is_empty();
            let mark = if is_last { mark } else { 0 };
            let message = Message::Records { request, mark, batches, inline: Vec::new() };
            self.effects.push(Effect::Send { peer: id, message });
            if is_last {
                return Ok(());
            }
            batches = rest;
        }
    }

    /// Records under signatures that count: a batch whole where all of it is to be sent, else record by
    /// record.
    fn sealed_batches(&mut self, records: Vec<SignedRecord>) -> Result<Vec<Batch>, EngineError> {
        let mut by_seal: BTreeMap<u64, BTreeMap<u32, SignedRecord>> = BTreeMap::new();
        for record in records {
            let sealed = self.index.sealed(&record.hash)?;
            let counts = sealed.iter().find(|sealed| self.authority.may_write(&sealed.author));
            if let Some(sealed) = counts {
                by_seal.entry(sealed.seal).or_default().insert(sealed.place, record);
            }
        }
        let mut batches = Vec::new();
        for (number, records) in by_seal {
            let Some(seal) = self.index.seal(number)? else { continue };
            let (author, signature) = (seal.author, seal.signature);
            let bytes: usize = records.values().map(|record| record.bytes.len()).sum();
            let whole = match &seal.lists {
                Lists::Whole(leaves) => leaves.len() == records.len() && bytes < MESSAGE_BYTES,
                Lists::One(_) => false,
            };
            if whole {
                let records = records.into_values().collect();
                batches.push(Batch { author, signature, records, proof: None });
                continue;
            }
            batches.extend(records.into_iter().map(|(place, record)| {
                let proof = Some(seal.proof(place));
                Batch { author, signature, records: vec![record], proof }
            }));
        }
        Ok(batches)
    }
}

//! What people said about SSH (rules T9 and T23).

use identity::DeviceId;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// What this device's person said about SSH with another device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::device) struct Consent {
    /// The other may log in here.
    pub(in crate::device) into_here: bool,
    /// This device shall be able to log in there.
    pub(in crate::device) from_here: bool,
    /// On which terms it may log in here.
    pub(in crate::device) terms: Terms,
}

/// What bounds a leave to log in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in crate::device) struct Terms {
    /// Until when, in seconds since 1970; for ever if absent.
    pub(in crate::device) expires: Option<i64>,
    /// From which networks; from everywhere if empty.
    pub(in crate::device) from: Vec<String>,
}

fn terms_key(device: &DeviceId) -> String {
    format!("ssh terms {device}")
}

fn gone_key(device: &DeviceId) -> String {
    format!("ssh gone {device}")
}

impl Store {
    /// What was said about a device; `None` if nobody was asked yet.
    pub(in crate::device) fn ssh_consent(
        &self,
        device: &DeviceId,
    ) -> Result<Option<Consent>, StoreError> {
        let query = "SELECT into_here, from_here FROM ssh_consents WHERE device = ?1";
        let row = self.db.query_row(query, [&device.0[..]], |row| Ok((row.get(0)?, row.get(1)?)));
        let Some((into_here, from_here)) = row.optional().map_err(self.fail())? else {
            return Ok(None);
        };
        let terms = match self.setting(&terms_key(device))? {
            None => Terms::default(),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|_| self.damaged("the terms of a leave to log in make no sense"))?,
        };
        Ok(Some(Consent { into_here, from_here, terms }))
    }

    /// Devices about which something was said.
    pub(in crate::device) fn ssh_devices(&self) -> Result<Vec<DeviceId>, StoreError> {
        self.rows("SELECT device FROM ssh_consents", |row| Ok(super::array(row, 0)?.map(DeviceId)))
    }

    /// The terms first: a leave is never without them.
    pub(in crate::device) fn put_ssh(
        &self,
        device: &DeviceId,
        consent: &Consent,
        at: i64,
    ) -> Result<(), StoreError> {
        let terms = serde_json::to_vec(&consent.terms).unwrap_or_default();
        self.set(&terms_key(device), &terms)?;
        self.put_ssh_consent(device, consent.into_here, consent.from_here, at)
    }

    /// Nobody was asked about this device any more: it does not belong to a group of ours.
    pub(in crate::device) fn forget_ssh(&self, device: &DeviceId) -> Result<(), StoreError> {
        self.run("DELETE FROM ssh_consents WHERE device = ?1", [&device.0[..]])?;
        self.run("DELETE FROM settings WHERE key = ?1", [terms_key(device)])
    }

    /// The terms of a device's old key are its new one's. Before the consent itself, which is never without them.
    pub(in crate::device) fn follow_terms(
        &self,
        old: &DeviceId,
        new: &DeviceId,
    ) -> Result<(), StoreError> {
        match self.setting(&terms_key(old))? {
            Some(terms) if self.ssh_consent(new)?.is_none() => self.set(&terms_key(new), &terms),
            _ => Ok(()),
        }
    }

    /// True once everything was taken away from a device that is gone.
    pub(in crate::device) fn is_ssh_gone(&self, device: &DeviceId) -> Result<bool, StoreError> {
        Ok(self.setting(&gone_key(device))?.is_some())
    }

    pub(in crate::device) fn set_ssh_gone(
        &self,
        device: &DeviceId,
        gone: bool,
    ) -> Result<(), StoreError> {
        match gone {
            true => self.set(&gone_key(device), &[1]),
            false => self.run("DELETE FROM settings WHERE key = ?1", [gone_key(device)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_kept_with_its_terms() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&top.path().join("state.db")).unwrap();
        let device = DeviceId([1; 32]);
        assert_eq!(store.ssh_consent(&device).unwrap(), None);
        // As a pairing records it.
        store.put_ssh_consent(&device, true, false, 7).unwrap();
        let plain = Consent { into_here: true, from_here: false, terms: Terms::default() };
        assert_eq!(store.ssh_consent(&device).unwrap(), Some(plain.clone()));
        assert_eq!(store.ssh_devices().unwrap(), [device]);
        let terms = Terms { expires: Some(9), from: vec!["10.0.0.0/8".into()] };
        let bounded = Consent { terms, ..plain };
        store.put_ssh(&device, &bounded, 8).unwrap();
        assert_eq!(store.ssh_consent(&device).unwrap(), Some(bounded));
        let new = DeviceId([2; 32]);
        store.follow(&device, &new).unwrap();
        assert_eq!(store.ssh_consent(&device).unwrap(), None);
        let followed = store.ssh_consent(&new).unwrap().unwrap();
        assert_eq!((followed.terms.expires, followed.terms.from.len()), (Some(9), 1));
        store.put_ssh(&device, &followed, 8).unwrap();
        store.forget_ssh(&device).unwrap();
        assert_eq!(store.ssh_consent(&device).unwrap(), None);
        assert!(!store.is_ssh_gone(&device).unwrap());
        store.set_ssh_gone(&device, true).unwrap();
        assert!(store.is_ssh_gone(&device).unwrap());
        store.set_ssh_gone(&device, false).unwrap();
        assert!(!store.is_ssh_gone(&device).unwrap());
    }
}

//! Keeping a rotation of this device's key, and following those of others.

use identity::DeviceId;
use rusqlite::params;
use wire::membership::{GroupId, SignedOperation};

use super::{Store, StoreError};

/// A rotation that is in the logs; the key files may still be the old ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::device) struct Turn {
    /// The new device id.
    pub(in crate::device) to: DeviceId,
    /// Until when the old inbox key is kept, in seconds since 1970.
    pub(in crate::device) until: i64,
}

impl Turn {
    fn to_bytes(self) -> Vec<u8> {
        [&self.to.0[..], &self.until.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (to, until) = bytes.split_first_chunk()?;
        Some(Self { to: DeviceId(*to), until: i64::from_be_bytes(until.try_into().ok()?) })
    }
}

const TURN: &str = "rotation";

impl Store {
    /// Adds the rotation to the logs of all groups and remembers that it is under way, at once or not at all.
    pub(in crate::device) fn begin_turn(
        &mut self,
        turn: &Turn,
        operations: &[(GroupId, SignedOperation)],
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let fail = move |source| StoreError::Database { path: path.clone(), source };
        let change = self.db.savepoint().map_err(&fail)?;
        for (group, signed) in operations {
            change
                .execute(
                    "INSERT INTO operations (group_id, bytes) VALUES (?1, ?2)",
                    params![&group.0[..], &signed.bytes()[..]],
                )
                .map_err(&fail)?;
        }
        change
            .execute(
                "INSERT OR REPLACE INTO settings VALUES (?1, ?2)",
                params![TURN, turn.to_bytes()],
            )
            .map_err(&fail)?;
        change.commit().map_err(&fail)
    }

    /// The rotation that is under way.
    pub(in crate::device) fn turn(&self) -> Result<Option<Turn>, StoreError> {
        let Some(bytes) = self.setting(TURN)? else { return Ok(None) };
        Turn::read(&bytes).map(Some).ok_or_else(|| self.damaged("the rotation under way"))
    }

    /// The key files are the new ones.
    pub(in crate::device) fn end_turn(&self) -> Result<(), StoreError> {
        self.run("DELETE FROM settings WHERE key = ?1", [TURN])
    }

    /// Ends all codes: who has one was told the old key (rule T13).
    pub(in crate::device) fn revoke_codes(&self) -> Result<(), StoreError> {
        self.run("UPDATE codes SET revoked = 1", [])
    }

    /// What was kept of a device's old key is its new one's: what its person and this one's agreed on about SSH,
    /// and where letters to it may be left.
    pub(in crate::device) fn follow(
        &self,
        old: &DeviceId,
        new: &DeviceId,
    ) -> Result<(), StoreError> {
        self.follow_terms(old, new)?;
        for table in ["ssh_consents", "mail_places"] {
            self.run(
                &format!("UPDATE OR IGNORE {table} SET device = ?2 WHERE device = ?1"),
                params![&old.0[..], &new.0[..]],
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t13_what_was_agreed_on_about_ssh_follows_to_the_new_key() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&top.path().join("state.db")).unwrap();
        let (old, new) = (DeviceId([1; 32]), DeviceId([2; 32]));
        store.put_ssh_consent(&old, true, false, 7).unwrap();
        store.follow(&old, &new).unwrap();
        let found: Vec<(Vec<u8>, bool)> = store
            .rows("SELECT device, into_here FROM ssh_consents", |row| {
                Ok(Some((row.get(0)?, row.get(1)?)))
            })
            .unwrap();
        assert_eq!(found, [(new.0.to_vec(), true)]);
    }
}

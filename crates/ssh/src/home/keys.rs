//! This user's own keys in `~/.ssh`.

use std::path::Path;

use super::Home;
use crate::{
    KeyKind, OwnKey, SshError, hosts,
    own::{self, MAX_KEY_FILE},
};

impl Home {
    /// The key of ours that is in use: of this kind, or `None` if none was made yet.
    ///
    /// # Errors
    /// As the files.
    pub fn key(&self, kind: KeyKind) -> Result<Option<OwnKey>, SshError> {
        Ok(self
            .keys()?
            .into_iter()
            .filter(|(of, ..)| *of == kind)
            .max_by_key(|(_, number, _)| *number)
            .map(|(.., key)| key))
    }

    /// The key of ours that is in use; made if there is none yet.
    ///
    /// # Errors
    /// As the files.
    pub fn key_or_new(&self, kind: KeyKind, comment: &str) -> Result<OwnKey, SshError> {
        match self.key(kind)? {
            Some(key) => Ok(key),
            None => self.new_key(kind, comment),
        }
    }

    /// Makes another key of ours, which is the one in use from then on. No file that is there is touched.
    ///
    /// # Errors
    /// As the files.
    pub fn new_key(&self, kind: KeyKind, comment: &str) -> Result<OwnKey, SshError> {
        let made = own::make(kind, comment)?;
        let last = self.last_number(kind)?;
        for number in last + 1..=own::MAX_NUMBER {
            let at = format!(".ssh/{}", kind.file(number));
            let line = format!("{} {comment}\n", made.public);
            // The public half first: a key is one when both are there.
            if !self.dir.create(&format!("{at}.pub"), line.as_bytes(), 0o644)? {
                continue;
            }
            if self.dir.create(&at, made.private.as_bytes(), 0o600)? {
                return Ok(OwnKey { path: self.path().join(at), public: made.public, ours: true });
            }
            self.dir.remove(&format!("{at}.pub"))?;
        }
        Err(SshError::Make("there are too many keys of ours already"))
    }

    /// A key that a person brings, by the path of either of its files.
    ///
    /// # Errors
    /// If one of them is not there, or the public one is none.
    pub fn given_key(&self, named: &Path) -> Result<OwnKey, SshError> {
        let path = own::private_path(named);
        let path = std::path::absolute(&path).map_err(|_| SshError::NoKey(path))?;
        hosts::quoted(&path)?;
        if !path.is_file() {
            return Err(SshError::NoKey(path));
        }
        let mut file = path.clone();
        file.as_mut_os_string().push(".pub");
        let text =
            tree::read_config(&file, MAX_KEY_FILE).map_err(|_| SshError::NoKey(file.clone()))?;
        Ok(OwnKey { public: own::public_in(&file, &text)?, path, ours: false })
    }

    /// All keys of ours.
    ///
    /// # Errors
    /// As the files.
    pub fn own_keys(&self) -> Result<Vec<OwnKey>, SshError> {
        Ok(self.keys()?.into_iter().map(|(.., key)| key).collect())
    }

    /// Removes a key of ours, both its files; false if there is none at this path.
    ///
    /// # Errors
    /// As the files.
    pub fn remove_key(&self, path: &Path) -> Result<bool, SshError> {
        let Some((kind, number, _)) = self.keys()?.into_iter().find(|(.., key)| key.path == path)
        else {
            return Ok(false);
        };
        let at = format!(".ssh/{}", kind.file(number));
        self.dir.remove(&at)?;
        self.dir.remove(&format!("{at}.pub"))?;
        Ok(true)
    }

    fn keys(&self) -> Result<Vec<(KeyKind, u16, OwnKey)>, SshError> {
        let names = self.dir.names(".ssh")?;
        let mut keys = Vec::new();
        for kind in [KeyKind::Ed25519, KeyKind::Rsa] {
            for name in names.iter().filter(|name| names.contains(&format!("{name}.pub"))) {
                let Some(number) = kind.number(name) else { continue };
                let at = format!(".ssh/{name}.pub");
                let Some(bytes) = self.dir.read(&at, MAX_KEY_FILE)? else { continue };
                let public =
                    own::public_in(&self.path().join(&at), &String::from_utf8_lossy(&bytes))?;
                let path = self.path().join(".ssh").join(name);
                keys.push((kind, number, OwnKey { path, public, ours: true }));
            }
        }
        keys.sort_by(|a, b| a.2.path.cmp(&b.2.path));
        Ok(keys)
    }

    /// The highest number of which either file is there; 0 without any.
    fn last_number(&self, kind: KeyKind) -> Result<u16, SshError> {
        let names = self.dir.names(".ssh")?;
        let numbers = names.iter().filter_map(|name| kind.number(name.trim_end_matches(".pub")));
        Ok(numbers.max().unwrap_or(0))
    }
}

//! What can go wrong in a world, by kind.

use std::{fmt, str::FromStr};

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Links break with messages under way, one end notices late, delays, partitions, and what was pushed
    /// last comes again after a reconnect.
    Links,
    /// A process dies, between two jobs or within one, and starts again.
    Crash,
    /// The machine loses power: what was not synced is gone.
    Power,
    /// Calls on the disk fail for a while: ENOSPC, EIO, EMFILE, EROFS.
    Disk,
    /// The watcher loses events, and says so or not.
    Watch,
    /// Wall clocks are up to 48 hours apart, and jump.
    Clock,
    /// A disk folds case, or takes letters with marks for the same however they are put together.
    Fold,
    /// An index is set back, copied to another device, or deleted.
    Index,
    /// Users edit in the middle of an apply or a scan, and write through handles that they kept open.
    Races,
    /// No fault: the devices are a group, and members are admitted, put out, admitted again, and get other roles.
    Members,
    /// No fault, in a group: in the middle of a history years pass, in which deletions are forgotten (rule E4), and
    /// then devices come back that were away, or are set back to what they were before.
    Years,
    /// No fault, in a group: devices take new keys in place of their old ones.
    Keys,
}

impl Fault {
    /// Every kind that is a fault, in the order in which they are named: what `all` means.
    pub const EVERY: [Self; 9] = [
        Self::Links,
        Self::Crash,
        Self::Power,
        Self::Disk,
        Self::Watch,
        Self::Clock,
        Self::Fold,
        Self::Index,
        Self::Races,
    ];

    /// Every kind.
    pub fn named() -> impl Iterator<Item = Self> {
        Self::EVERY.into_iter().chain([Self::Members, Self::Years, Self::Keys])
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Crash => "crash",
            Self::Power => "power",
            Self::Disk => "disk",
            Self::Watch => "watch",
            Self::Clock => "clock",
            Self::Fold => "fold",
            Self::Index => "index",
            Self::Races => "races",
            Self::Members => "members",
            Self::Years => "years",
            Self::Keys => "keys",
        }
    }

    fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// Kinds of faults that a world may have.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u16);

impl Faults {
    /// No faults.
    pub const NONE: Self = Self(0);

    /// Every kind of fault.
    #[must_use]
    pub fn all() -> Self {
        Fault::EVERY.iter().copied().collect()
    }

    /// True if it has this kind.
    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        self.0 & fault.bit() != 0
    }

    /// Without this kind.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !fault.bit())
    }

    /// Each kind.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::named().filter(move |fault| self.has(*fault))
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<T: IntoIterator<Item = Fault>>(faults: T) -> Self {
        Self(faults.into_iter().fold(0, |bits, fault| bits | fault.bit()))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let names: Vec<_> = self.iter().map(Fault::name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let mut faults = Self::NONE;
        for name in text.split(',') {
            if name == "all" {
                faults = faults.iter().chain(Fault::EVERY).collect();
                continue;
            }
            let fault = Fault::named().find(|fault| fault.name() == name).ok_or_else(|| {
                let names: Vec<_> = Fault::named().map(Fault::name).collect();
                let names = names.join(", ");
                format!("no such kind of fault: {name}; there are {names}, and all, none")
            })?;
            faults = faults.iter().chain([fault]).collect();
        }
        Ok(faults)
    }
}

//! Lines of `authorized_keys`: who may come in.

use jiff::{Timestamp, tz::TimeZone};

use crate::{Cidr, PublicKey, Tag, text::comment};

/// The form of sshd's `expiry-time=`, in UTC.
const EXPIRY: &str = "%Y%m%d%H%M%SZ";

/// Leave for one device to come in with one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// Its user's key.
    pub key: PublicKey,
    /// Which device.
    pub tag: Tag,
    /// What it is called: for people who read the file.
    pub name: String,
    /// Until when, in seconds since 1970; sshd enforces it. For ever if absent.
    pub expires: Option<i64>,
    /// From which networks; from everywhere if empty. sshd enforces it.
    pub from: Vec<Cidr>,
}

impl Access {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut options = Vec::new();
        if !self.from.is_empty() {
            let from: Vec<String> = self.from.iter().map(ToString::to_string).collect();
            options.push(format!("from=\"{}\"", from.join(",")));
        }
        if let Some(end) = self.expires.map(expiry) {
            options.push(format!("expiry-time=\"{end}\""));
        }
        let space = if options.is_empty() { "" } else { " " };
        let (key, tag, name) = (&self.key, &self.tag, comment(&self.name));
        format!("{}{space}{key} {tag} {name}\n", options.join(","))
    }
}

fn expiry(seconds: i64) -> String {
    let clamped = seconds.clamp(0, 253_402_300_799);
    let time = Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::UTC).strftime(EXPIRY).to_string()
}

/// A line of ours as it was found, perhaps edited by a person since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Which device.
    pub tag: Tag,
    /// What it was called then.
    pub name: String,
    /// The key, if it is one still.
    pub key: Option<PublicKey>,
    /// Until when, in seconds since 1970.
    pub expires: Option<i64>,
    /// From which networks: sshd's pattern list.
    pub from: Option<String>,
}

impl Allowed {
    /// Reads a line; `None` if it is not ours.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let tag = Tag::of_line(line)?;
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        let (options, rest) = split_options(text);
        let (key, comment) = match rest.split_once(&format!("{tag}")) {
            Some((key, comment)) => (key, comment),
            None => (rest, ""),
        };
        let quoted = |name: &str| {
            let at = options.find(&format!("{name}=\""))?;
            let value = options.get(at + name.len() + 2..)?;
            value.split('"').next().map(str::to_owned)
        };
        Some(Self {
            tag,
            name: comment.trim().to_owned(),
            key: PublicKey::parse(key.trim_end()).ok(),
            expires: quoted("expiry-time").as_deref().and_then(read_expiry),
            from: quoted("from"),
        })
    }
}

/// Options before a key, which may hold spaces in quotes, and the rest.
fn split_options(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    if PublicKey::parse(line).is_ok() {
        return ("", line);
    }
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => return line.split_at(at),
            _ => {}
        }
    }
    ("", line)
}

fn read_expiry(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text.strip_suffix('Z')?).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

    #[test]
    fn a_line_says_what_is_allowed_and_is_read_back() {
        let access = Access {
            key: PublicKey::parse(KEY).expect("is one"),
            tag: Tag::new("kd1abc").expect("is one"),
            name: "Bob's \"desk\"\n".into(),
            expires: Some(1_795_168_800),
            from: vec!["10.0.2.0/24".parse().expect("is one"), "fd00::/8".parse().expect("is one")],
        };
        let line = access.line();
        assert_eq!(
            line,
            format!(
                "from=\"10.0.2.0/24,fd00::/8\",expiry-time=\"20261120100000Z\" {KEY} kinfold:kd1abc Bob-s--desk--\n"
            )
        );
        let allowed = Allowed::read(line.as_bytes()).expect("is ours");
        assert_eq!(allowed.expires, access.expires);
        assert_eq!(allowed.from.as_deref(), Some("10.0.2.0/24,fd00::/8"));
        assert_eq!((allowed.key, allowed.tag), (Some(access.key.clone()), access.tag.clone()));
        let plain = Access { expires: None, from: Vec::new(), ..access };
        assert_eq!(plain.line(), format!("{KEY} kinfold:kd1abc Bob-s--desk--\n"));
        let allowed = Allowed::read(plain.line().as_bytes()).expect("is ours");
        assert_eq!((allowed.name.as_str(), allowed.from), ("Bob-s--desk--", None));
        // What a person has changed is still ours, and a remark is not.
        let edited = format!("restrict,command=\"a b\" {KEY} kinfold:kd1abc x\r\n");
        assert!(Allowed::read(edited.as_bytes()).is_some_and(|it| it.key == Some(plain.key)));
        assert_eq!(Allowed::read(format!("#{}", edited).as_bytes()), None);
        assert_eq!(Allowed::read(format!("{KEY} bob@kinfold:x\n").as_bytes()), None);
    }
}

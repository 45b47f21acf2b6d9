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
    /// It has terms that kin does not write in this form: whoever writes the line anew from what is said here would
    /// let in more than it does.
    pub others: bool,
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
        let mut found = Self {
            tag,
            name: comment.trim().to_owned(),
            key: PublicKey::parse(key.trim_end()).ok(),
            expires: None,
            from: None,
            others: false,
        };
        for option in split(options, |c| c == ',') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            match (name.to_ascii_lowercase().as_str(), value) {
                ("from", Some(value)) if found.from.is_none() => {
                    found.others |= !value.split(',').all(|net| net.parse::<Cidr>().is_ok());
                    found.from = Some(value.to_owned());
                }
                ("expiry-time", Some(value)) if found.expires.is_none() => {
                    found.expires = read_expiry(value);
                    found.others |= found.expires.is_none();
                }
                _ => found.others = true,
            }
        }
        Some(found)
    }

    /// True if it lets nobody in any more, since its end has come.
    pub(crate) fn is_over(&self) -> bool {
        self.expires.is_some_and(|end| end <= Timestamp::now().as_second())
    }
}

/// Options before a key, which may hold spaces in quotes, and the rest.
fn split_options(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    if PublicKey::parse(line).is_ok() {
        return ("", line);
    }
    let options = split(line, |c| c == ' ' || c == '\t').next().unwrap_or_default();
    line.split_at_checked(options.len()).filter(|(_, rest)| !rest.is_empty()).unwrap_or(("", line))
}

/// Parts between separators that are not in quotes, in which a backslash takes the next quote's meaning away.
fn split(text: &str, separates: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let after = std::mem::replace(&mut escaped, c == '\\');
        quoted ^= c == '"' && !after;
        !quoted && separates(c)
    })
    .filter(|part| !part.is_empty())
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
        assert!(!allowed.others);
        // Terms that are not kin's are seen, wherever they are, and those in quotes are none.
        for (options, from, others) in [
            ("restrict,from=\"10.0.0.0/8\"", Some("10.0.0.0/8"), true),
            ("from=\"10.0.0.0/8,!10.0.0.1\"", Some("10.0.0.0/8,!10.0.0.1"), true),
            ("from=\"10.0.0.0/8\",from=\"10.0.0.0/9\"", Some("10.0.0.0/8"), true),
            ("expiry-time=\"20301120\"", None, true),
            ("command=\"echo \\\"x, from=\\\" y\"", None, true),
            ("FROM=\"10.0.0.0/8\"", Some("10.0.0.0/8"), false),
        ] {
            let line = format!("{options} {KEY} kinfold:kd1abc x\n");
            let allowed = Allowed::read(line.as_bytes()).expect("is ours");
            assert_eq!((allowed.from.as_deref(), allowed.others), (from, others), "{line}");
            assert_eq!((allowed.key, allowed.expires), (Some(plain.key.clone()), None), "{line}");
        }
        // What a person has changed is still ours, and a remark is not.
        let edited = format!("restrict,command=\"a b\" {KEY} kinfold:kd1abc x\r\n");
        assert!(
            Allowed::read(edited.as_bytes()).is_some_and(|it| it.key == Some(plain.key.clone()))
        );
        assert_eq!(Allowed::read(format!("#{}", edited).as_bytes()), None);
        assert_eq!(Allowed::read(format!("{KEY} bob@kinfold:x\n").as_bytes()), None);
    }
}

//! What a person gave `kin pair`: an address, a token, or something that does not belong there (attack 9).

use identity::WORDS;

use crate::{check, error::CommandError, handover::HANDED};

/// How the link of a sharing code begins.
const CODE_LINK: &str = "kin:join/";
/// How the address of a relay begins.
const RELAY_LINK: &str = "kin:relay/";

/// What a person gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    /// `HOST[:PORT]` of the other device.
    Host(String),
    /// A token (`kt1…`) or link (`kin:…`). Secret: in no message.
    Token(String),
    /// `-`: the token comes on standard input.
    Input,
    /// The token was taken from the arguments and is in the pipe of this number (`crate::handover`).
    Handed(u32),
}

/// Says what it is.
///
/// # Errors
/// If it is something else; what, and why it is not taken.
pub(crate) fn given(words: &[String]) -> Result<Option<Given>, CommandError> {
    let [text] = words else {
        if words.is_empty() {
            return Ok(None);
        }
        if is_sas(&words.join(" ")) {
            return Err(sas());
        }
        return Err(CommandError::usage("usage", "kin pair takes one address or token")
            .hint("leave it out to look for devices on this network"));
    };
    let text = text.trim();
    if text == "-" {
        return Ok(Some(Given::Input));
    }
    if let Some(fd) = text.strip_prefix(HANDED).and_then(|fd| fd.parse().ok()) {
        return Ok(Some(Given::Handed(fd)));
    }
    if is_token(text) {
        return Ok(Some(Given::Token(text.to_owned())));
    }
    not_a_token(text)?;
    check::host("HOST[:PORT]", text)?;
    Ok(Some(Given::Host(text.to_owned())))
}

/// A token that came by standard input or from a file.
///
/// # Errors
/// If it is something else. The text is in no message: it may be a secret.
pub(crate) fn token(text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    if is_token(text) {
        return Ok(text.to_owned());
    }
    not_a_token(text)?;
    Err(CommandError::usage("token", "this is no pairing token")
        .hint("one begins with kt1 or kin: and is shown by kin pair --token on the other device"))
}

/// True for what looks like a token or a link to one, in upper or lower case.
pub(crate) fn is_token(text: &str) -> bool {
    let link = starts(text, "kin:") && !starts(text, CODE_LINK) && !starts(text, RELAY_LINK);
    starts(text, "kt1") || link
}

/// True for what looks like a sharing code or a link to one, in upper or lower case.
pub(crate) fn is_code(text: &str) -> bool {
    starts(text, "kc1") || starts(text, CODE_LINK)
}

/// A sharing code that came in whatever way.
///
/// # Errors
/// If it is something else. The text is in no message: it may be a secret.
pub(crate) fn code(text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    if is_code(text) {
        return Ok(text.to_owned());
    }
    if is_sas(text) {
        return Err(sas());
    }
    if is_token(text) {
        return Err(CommandError::usage(
            "code",
            "this is a pairing token, which makes two devices know each other; kin join takes none",
        )
        .hint("to pair by it: kin pair -, then paste it"));
    }
    Err(CommandError::usage("code", "this is no sharing code").hint(
        "one begins with kc1 or kin:join/ and is shown by kin share --code on the other device",
    ))
}

/// Refuses what is no folder's name and no code, where either is wanted.
///
/// # Errors
/// Says what it is instead.
pub(crate) fn not_a_name(words: &[String]) -> Result<(), CommandError> {
    let joined = words.join(" ");
    // A folder may be called maple, or 2026.
    if joined.split_whitespace().count() > 1 && is_sas(&joined) {
        return Err(sas());
    }
    match words.first() {
        Some(text) if is_token(text) => code(text).map(drop),
        _ => Ok(()),
    }
}

fn starts(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Refuses what is of another kind of ours.
fn not_a_token(text: &str) -> Result<(), CommandError> {
    if is_sas(text) {
        return Err(sas());
    }
    let refused = |message: &str, hint: &str| Err(CommandError::usage("token", message).hint(hint));
    if starts(text, "kd1") {
        refused(
            "this is a device id: it may be shown to anybody, and lets nobody in",
            "pair by the other device's address, or by the token that kin pair --token shows there",
        )
    } else if is_code(text) {
        refused(
            "this is a sharing code, which admits to one folder; kin pair takes none",
            "to join that folder: kin join -, then paste it",
        )
    } else if starts(text, "kin-device-key-") || starts(text, "kin-inbox-key-") {
        refused(
            "this is a device's secret key: it never leaves its device, and whoever asks for it wants to be that device",
            "if others may have seen it, remove that device and pair it anew",
        )
    } else {
        Ok(())
    }
}

fn sas() -> CommandError {
    CommandError::usage(
        "sas",
        "words and numbers that two devices show are compared by eye and never typed: \
         whoever asks you to type or send them may be trying to get in",
    )
    .hint("run kin pair on both devices, look whether both show the same, and answer y or n")
}

/// True for a short authentication string, or several parts of one.
fn is_sas(text: &str) -> bool {
    let parts: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= 4;
    let word = |part: &str| WORDS.iter().any(|word| word.eq_ignore_ascii_case(part));
    let all_digits = parts.iter().all(|part| digits(part));
    let dotted = text.contains(['.', ':']);
    // A host may be called maple; 4217, 42-17 and maple-otter are no hosts anybody means here.
    let whole = parts.len() > 1 || all_digits;
    !parts.is_empty()
        && parts.len() <= 4
        && whole
        && !dotted
        && parts.iter().all(|part| digits(part) || word(part))
}

#[cfg(test)]
mod tests {
    use identity::Sas;
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<Option<Given>, CommandError> {
        given(&[text.to_owned()])
    }

    #[test]
    fn addresses_and_tokens_are_told_apart() {
        assert_eq!(given(&[]), Ok(None));
        assert_eq!(one("-"), Ok(Some(Given::Input)));
        assert_eq!(one("@3"), Ok(Some(Given::Handed(3))));
        assert!(one("@x").is_err() && one("me@nas").is_err());
        for host in
            ["nas", "nas.local", "maple", "10.0.0.7", "10.0.0.7:9000", "[fe80::1]:9000", "fe80::1"]
        {
            assert_eq!(one(host), Ok(Some(Given::Host(host.into()))), "{host}");
        }
        for text in ["kt1qqq", "KT1QQQ", "kin:pair/kt1qqq", "KIN:PAIR/KT1QQQ"] {
            assert_eq!(one(text), Ok(Some(Given::Token(text.into()))), "{text}");
            assert_eq!(token(&format!(" {text}\n")).as_deref(), Ok(text));
        }
    }

    #[test]
    fn attack_09_what_is_no_token_is_named_and_not_repeated() {
        for (text, kind, said) in [
            ("kd1qqqqqqq", "token", "device id"),
            ("KC1QQQ", "token", "sharing code"),
            ("kin-device-key-1qqq", "token", "secret key"),
            ("maple otter 42 17", "sas", "never typed"),
            ("maple-otter-42-17", "sas", "never typed"),
            ("otter maple", "sas", "never typed"),
            ("42 17", "sas", "never typed"),
            ("4217", "sas", "never typed"),
        ] {
            for error in [one(text).expect_err(text), token(text).expect_err(text)] {
                assert_eq!((&*error.kind, error.exit.code()), (kind, 2), "{text}");
                assert!(error.message.contains(said) && !error.hints.is_empty(), "{text}");
                assert!(!error.message.contains(text), "{text}");
            }
        }
        let secret = token("hunter2").expect_err("is none");
        assert!(!secret.to_string().contains("hunter2"));
        let words = ["maple", "otter", "42", "17"].map(str::to_owned);
        assert_eq!(given(&words).expect_err("is none").kind, "sas");
        assert_eq!(given(&["a".into(), "b".into()]).expect_err("is none").kind, "usage");
    }

    proptest! {
        #[test]
        fn attack_09_no_short_string_is_taken_for_anything(bytes: [u8; 32]) {
            let sas = Sas::from_kdf(&bytes).to_string();
            prop_assert_eq!(one(&sas).expect_err("is none").kind, "sas");
            prop_assert_eq!(token(&sas).expect_err("is none").kind, "sas");
        }
    }
}

use super::*;
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

#[test]
fn a_key_is_taken_without_its_comment() {
    for line in [format!("{KEY} bob@hostb"), format!("{KEY}\n"), format!(" {KEY} a b c")] {
        let key = PublicKey::parse(&line).expect(&line);
        assert_eq!(key.to_string(), KEY);
        assert_eq!(key.kind(), "ssh-ed25519");
    }
    // As `ssh-keygen -l` says.
    let key = PublicKey::parse(KEY).expect("is one");
    assert_eq!(key.fingerprint(), "SHA256:seusSwOLegH0bvThqA8aaBWCH+E+2c3mOexVtXp5BME");
}

#[test]
fn attack_16_a_key_with_anything_else_is_refused() {
    let long = format!("{KEY} {}", "x".repeat(1 << 20));
    for (line, error) in [
        (String::new(), KeyError::Empty),
        (" ".into(), KeyError::Empty),
        (format!("{KEY}\nssh-ed25519 AAAA"), KeyError::NotOneLine),
        (format!("{KEY}\r\n"), KeyError::NotOneLine),
        (format!("{KEY} a\rb"), KeyError::NotOneLine),
        (format!("{KEY}\n\n"), KeyError::NotOneLine),
        (format!("{KEY} \u{1b}[2J"), KeyError::NotOneLine),
        (format!("{KEY} a\0b"), KeyError::NotOneLine),
        (format!("command=\"sh\" {KEY}"), KeyError::Options),
        (format!("no-pty {KEY}"), KeyError::Options),
        (format!("ssh-command=\"x\" {KEY}"), KeyError::Options),
        (format!("# {KEY}"), KeyError::Options),
        (format!("{KEY} {KEY}"), KeyError::Second),
        (format!("{KEY} x ssh-rsa AAAA"), KeyError::Second),
        (long, KeyError::TooLong),
        ("ssh-ed25519".into(), KeyError::Damaged),
        ("ssh-ed25519 AAAA".into(), KeyError::Damaged),
        (KEY.replace("ssh-ed25519 ", "ssh-rsa "), KeyError::Damaged),
        (format!("{KEY}AAAA"), KeyError::Damaged),
        (format!("{}%", KEY), KeyError::Damaged),
    ] {
        assert_eq!(PublicKey::parse(&line), Err(error), "{:.80}", line);
    }
}

#[test]
fn attack_18_private_weak_and_unknown_keys_are_refused() {
    for text in [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        assert_eq!(PublicKey::parse(text), Err(KeyError::Private));
    }
    for kind in ["ssh-dss", "ssh-ed448", "ssh-ed25519-cert-v01@openssh.com", "ssh-rsa1"] {
        let line = format!("{kind} AAAA");
        assert_eq!(PublicKey::parse(&line), Err(KeyError::Kind(kind.into())), "{kind}");
    }
    assert!(matches!(
        PublicKey::parse(
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCqZ3eBzdRRoRONHEB3UsjU7mTs4GSjByAwnAL72E/oNWVDv40OduaEEvzNIg2NW+8R8GfZJinBH6KD8w5zQ7VudwhKAL2DMPNc+TqqERo030uUtw421EVV0iq1ZrPauraI0/5W2ssykoeoytKWLeKZBZjTBC4hAEtKvrNF8jgCLQ=="
        ),
        Err(KeyError::Weak(_))
    ));
    assert!(PublicKey::parse("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDbFZpBGs3DuddVdUITLo7T8i/Zpym8z+SrddaH/xtXWFCDukKNlSfqO0VYtfWudHNhGcZ20wwjetOTfsQ+udbLBWAiOkyosvUhss59w2/emNI61/yIgGQqB3iF8/l9dnGngwBmcfuZaBMEMKbY5Kruzmt3qEc/1pS9d/9r2XmOEgoEn6ujNvNv/LDDSn15ytziO+DppORmvy2GaMTHsHVIkCccS+rw48Q4L0OLc2neX0BGaVe7ugRiHW5uTAhBLr3gGv1givTfp3WECXC9Hbr9p7LlIrvxujZzStX2dbw7KXA8cxotzT3phuwQN/Oufl29p0lG8/qLxFJWLl09b9T9").is_ok());
    assert!(PublicKey::parse("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBKhl5nM+iBUPwjDV5XxlnYwsRYHVccpD2WF8Zz8a+eBnrp5IKhSBOr+HM6uSsjA4SDWbe3FHTmqWAhyCy7Pnf+w=").is_ok());
    assert!(PublicKey::parse("ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBABeS2q63ozHszzIk0MS7AU9oIumJ/Bty/sywdHScENWLeLEVr5wXSo1YDG7Uqp+OAUg7SMwHljbAUijuZxsKh0siwD9LM0Qdx6m8oY9N2vKAPIXwwjUqVYcZOtIn6gtSJzevTtQgx+Eqt8Mct3LnO8ZjvAG7dBVsOFSUjcJxCquMV2EoQ==").is_ok());
}

proptest::proptest! {
    #[test]
    fn attack_16_whatever_is_taken_is_one_line_of_a_key(text in "(ssh-ed25519|ssh-rsa|[a-z=\" ]{0,9}) ?[A-Za-z0-9+/=\\n\\r\u{0}\" ]{0,90}.*") {
        if let Ok(key) = PublicKey::parse(&text) {
            proptest::prop_assert!(!key.as_str().contains(['\n', '\r', '"']));
            proptest::prop_assert_eq!(PublicKey::parse(key.as_str()), Ok(key));
        }
    }
}

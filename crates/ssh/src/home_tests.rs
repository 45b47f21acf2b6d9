use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::{HostName, KeyKind};

const BOB: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

struct Fixture {
    top: TempDir,
    home: Home,
}

impl Fixture {
    fn new() -> Self {
        let top = tempdir().expect("there is room");
        let user = UserName::new("alice").expect("is one");
        let home = Home::at(top.path(), user).expect("is ours").with_etc(&top.path().join("etc"));
        Self { top, home }
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.top.path().join(".ssh").join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("there is room");
        fs::write(path, text).expect("there is room");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.top.path().join(".ssh").join(name)).unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("is text")
    }

    fn mode(&self, name: &str) -> u32 {
        let path = self.top.path().join(".ssh").join(name);
        fs::metadata(path).expect("is there").permissions().mode() & 0o7777
    }

    /// What ssh makes of an alias: its words, lower case, and their values.
    fn judged(&self, alias: &str) -> String {
        let config = self.top.path().join(".ssh/config");
        let out =
            Command::new("ssh").arg("-F").arg(config).args(["-G", alias]).output().expect("ssh");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("is text")
    }
}

fn tag(text: &str) -> Tag {
    Tag::new(text).expect("is one")
}

fn access(of: &str) -> Access {
    let key = PublicKey::parse(BOB).expect("is one");
    Access { key, tag: tag(of), name: "bob".into(), expires: None, from: Vec::new() }
}

fn host(of: &str, alias: &str, identity: PathBuf) -> Host {
    Host {
        alias: Alias::new(alias).expect("is one"),
        tag: tag(of),
        name: "Bob's desk".into(),
        host_name: HostName::new("10.0.0.2").expect("is one"),
        port: 2222,
        user: UserName::new("bob").expect("is one"),
        host_keys: vec![PublicKey::parse(BOB).expect("is one")],
        identity,
    }
}

#[test]
fn a_key_is_made_once_and_is_one_for_openssh() {
    let fixture = Fixture::new();
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "alice@a kinfold").expect("can be made");
    assert_eq!(fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("is there"), key);
    let rsa = fixture.home.key_or_new(KeyKind::Rsa, "alice@a kinfold").expect("can be made");
    for key in [&key, &rsa] {
        let out =
            Command::new("ssh-keygen").args(["-y", "-f"]).arg(&key.path).output().expect("ssh");
        let shown = String::from_utf8_lossy(&out.stdout);
        assert!(shown.starts_with(key.public.as_str()), "{shown} {:?}", out);
        let name = key.path.file_name().and_then(|name| name.to_str()).expect("is text");
        assert_eq!((fixture.mode(name), fixture.mode(&format!("{name}.pub"))), (0o600, 0o644));
    }
    assert_eq!(fixture.mode(""), 0o700);
    // Another one gets another name, and a name that is taken stays.
    fixture.put("kinfold_ed25519_3", "the user's own");
    let next = fixture.home.new_key(KeyKind::Ed25519, "x").expect("can be made");
    assert!(next.path.ends_with("kinfold_ed25519_4"));
    assert_eq!(fixture.home.key(KeyKind::Ed25519).expect("is there"), Some(next.clone()));
    assert!(fixture.home.remove_key(&next.path).expect("can be removed"));
    assert_eq!(fixture.home.key(KeyKind::Ed25519).expect("is there"), Some(key));
    assert_eq!(fixture.text("kinfold_ed25519_3"), "the user's own");
}

#[test]
fn hole_10_ssh_finds_what_was_installed_and_nothing_after() {
    let fixture = Fixture::new();
    fixture.put("config", "Host *\n  User wrong\n  Port 1\n");
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made");
    let desk = host("kd1b", "desk", key.path.clone());
    assert_eq!(fixture.home.reach(&desk).expect("works"), Edited::Changed);
    assert_eq!(fixture.home.reach(&desk).expect("works"), Edited::Unchanged);
    let said = fixture.judged("desk");
    for line in [
        "user bob\n",
        "hostname 10.0.0.2\n",
        "port 2222\n",
        "hostkeyalias desk\n",
        "identitiesonly yes\n",
        "stricthostkeychecking true\n",
        "updatehostkeys false\n",
        &format!("identityfile {}\n", key.path.display()),
        &format!("userknownhostsfile {}/.ssh/known_hosts\n", fixture.top.path().display()),
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert!(fixture.judged("other").contains("user wrong\n"));
    assert_eq!(fixture.text("known_hosts"), format!("desk {BOB} kinfold:kd1b Bob-s-desk\n"));
    assert_eq!((fixture.mode("config"), fixture.mode("known_hosts")), (0o644, 0o600));
    fixture.home.allow(&access("kd1b")).expect("works");
    let installed = fixture.home.installed().expect("can be read");
    assert_eq!(installed.len(), 1);
    let host = installed[0].host.as_ref().expect("is there");
    assert_eq!((host.port, host.user.as_str(), host.host_keys.len()), (2222, "bob", 1));
    assert_eq!(installed[0].access.len(), 1);
    // A new address is put in place.
    let moved = Host { host_name: HostName::new("fe80::1%eth0").expect("is one"), ..desk };
    assert_eq!(fixture.home.reach(&moved).expect("works"), Edited::Changed);
    assert!(fixture.judged("desk").contains("hostname fe80::1%eth0\n"));
    fixture.home.forget(&tag("kd1b")).expect("works");
    assert_eq!(fixture.text("config"), "Host *\n  User wrong\n  Port 1\n");
    assert_eq!((fixture.text("known_hosts"), fixture.text("authorized_keys")), Default::default());
    assert_eq!(fixture.home.installed().expect("can be read"), []);
}

#[test]
fn attack_19_other_host_keys_are_not_taken_in_the_place_of_pinned_ones() {
    let fixture = Fixture::new();
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made");
    let other = fixture.home.new_key(KeyKind::Ed25519, "x").expect("can be made").public;
    let rsa = fixture.home.new_key(KeyKind::Rsa, "x").expect("can be made").public;
    let desk = host("kd1b", "desk", key.path);
    fixture.home.reach(&desk).expect("works");
    let before = (fixture.bytes("known_hosts"), fixture.bytes("kinfold_config"));
    for keys in [vec![other.clone()], vec![rsa.clone()], vec![other, rsa.clone()], Vec::new()] {
        let error = fixture.home.reach(&Host { host_keys: keys, ..desk.clone() });
        assert!(matches!(error, Err(SshError::HostKeyChanged { .. })), "{error:?}");
        assert_eq!((fixture.bytes("known_hosts"), fixture.bytes("kinfold_config")), before);
    }
    // One more kind beside the pinned one is no change.
    let more = vec![desk.host_keys[0].clone(), rsa];
    fixture.home.reach(&Host { host_keys: more, ..desk }).expect("works");
    assert_eq!(fixture.text("known_hosts").lines().count(), 2);
}

#[test]
fn t24_an_alias_that_means_something_is_not_taken_and_stays_when_the_peer_is_renamed() {
    let fixture = Fixture::new();
    fixture.put("config", "Host desk github\n");
    fixture.put("known_hosts", format!("nas {BOB}\n"));
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made").path;
    for alias in ["desk", "github", "nas"] {
        let error = fixture.home.reach(&host("kd1b", alias, key.clone()));
        assert!(matches!(error, Err(SshError::Alias(AliasError::Used { .. }))), "{error:?}");
    }
    assert_eq!(fixture.text("config"), "Host desk github\n");
    let proposed = fixture.home.propose(&tag("kd1b"), "Desk").expect("can be read");
    assert_eq!(proposed.as_str(), "desk-2");
    fixture.home.reach(&host("kd1b", "desk-2", key.clone())).expect("works");
    let again = fixture.home.propose(&tag("kd1b"), "renamed").expect("can be read");
    assert_eq!(again.as_str(), "desk-2");
    let other = fixture.home.propose(&tag("kd1c"), "desk").expect("can be read");
    assert_eq!(other.as_str(), "desk-3");
    assert!(fixture.home.reach(&host("kd1c", "desk-2", key)).is_err());
}

#[test]
fn hole_6_attack_17_lines_of_others_stay_byte_for_byte() {
    let long: Vec<u8> =
        (0..10_000).flat_map(|n| format!("ssh-rsa AAAA{n} user{n}\n").into_bytes()).collect();
    for foreign in [
        &b""[..],
        b"ssh-rsa AAAA one\n",
        b"ssh-rsa AAAA no end",
        b"ssh-rsa AAAA one\r\nssh-rsa BBBB two\r\n",
        b"\xff\xfe\x00 not text\n\n\n",
        b"# remark kinfold:kd1b\n#kinfold:x",
        &long,
    ] {
        let fixture = Fixture::new();
        fixture.put("authorized_keys", foreign);
        let path = fixture.top.path().join(".ssh/authorized_keys");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("is ours");
        fixture.home.allow(&access("kd1b")).expect("works");
        fixture
            .home
            .allow(&Access { expires: Some(4_000_000_000), ..access("kd1b") })
            .expect("works");
        fixture.home.allow(&access("kd1c")).expect("works");
        let text = fixture.bytes("authorized_keys");
        let ours = format!("{BOB} kinfold:kd1c bob\n");
        assert!(text.windows(ours.len()).any(|window| window == ours.as_bytes()));
        assert_eq!(
            text.windows(8).filter(|window| window == b"kinfold:").count(),
            2 + foreign.windows(8).filter(|window| window == b"kinfold:").count()
        );
        assert_eq!(fixture.mode("authorized_keys"), 0o644);
        fixture.home.revoke(&tag("kd1b")).expect("works");
        fixture.home.revoke(&tag("kd1c")).expect("works");
        assert_eq!(fixture.bytes("authorized_keys"), foreign);
        assert_eq!(fixture.home.revoke(&tag("kd1c")).expect("works"), Edited::Unchanged);
    }
}

#[test]
fn attack_17_links_are_honoured_within_the_home_and_refused_out_of_it() {
    let fixture = Fixture::new();
    let top = fixture.top.path();
    fs::create_dir_all(top.join("dotfiles/ssh")).expect("there is room");
    fs::write(top.join("dotfiles/keys"), "ssh-rsa AAAA x\n").expect("there is room");
    symlink("dotfiles/ssh", top.join(".ssh")).expect("there is room");
    symlink(
        top.canonicalize().expect("is there").join("dotfiles/keys"),
        top.join("dotfiles/ssh/authorized_keys"),
    )
    .expect("there is room");
    symlink("../keys-that-are-not-there", top.join("dotfiles/ssh/known_hosts"))
        .expect("there is room");
    fixture.home.allow(&access("kd1b")).expect("works");
    assert!(
        fs::read_to_string(top.join("dotfiles/keys")).expect("is there").contains("kinfold:kd1b")
    );
    assert!(top.join("dotfiles/ssh/authorized_keys").is_symlink() && top.join(".ssh").is_symlink());
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made").path;
    fixture.home.reach(&host("kd1b", "desk", key)).expect("works");
    assert!(top.join("dotfiles/keys-that-are-not-there").is_file());

    let outside = tempdir().expect("there is room");
    fs::write(outside.path().join("keys"), "theirs\n").expect("there is room");
    let other = Fixture::new();
    other.put("x", "");
    let keys = other.top.path().join(".ssh/authorized_keys");
    for to in [
        outside.path().join("keys"),
        "../../keys".into(),
        "/etc/passwd".into(),
        "authorized_keys".into(),
    ] {
        let _ = fs::remove_file(&keys);
        symlink(&to, &keys).expect("there is room");
        let error = other.home.allow(&access("kd1b")).expect_err("is refused");
        assert!(
            matches!(
                error,
                SshError::File(UserFileError::Outside { .. } | UserFileError::TooManyLinks(_))
            ),
            "{error}"
        );
    }
    assert_eq!(fs::read_to_string(outside.path().join("keys")).expect("is there"), "theirs\n");
    let _ = fs::remove_file(&keys);
    fs::create_dir(&keys).expect("there is room");
    assert!(matches!(
        other.home.allow(&access("kd1b")),
        Err(SshError::File(UserFileError::NotAFile(_)))
    ));
}

#[test]
fn hole_8_a_key_that_a_person_brings_is_used_and_left() {
    let fixture = Fixture::new();
    fixture.put("id_own", "private");
    fixture.put("id_own.pub", format!("{BOB} bob\r\n"));
    let path = fixture.top.path().join(".ssh/id_own");
    for named in [path.clone(), path.with_extension("pub")] {
        let key = fixture.home.given_key(&named).expect("is there");
        assert_eq!((key.path.clone(), key.ours), (path.clone(), false));
        assert!(!fixture.home.remove_key(&key.path).expect("nothing to do"));
    }
    // What is taken away for a device that it opened takes nothing of it away.
    fixture.home.reach(&host("kd1b", "desk", path.clone())).expect("works");
    assert!(fixture.judged("desk").contains(&format!("identityfile {}\n", path.display())));
    fixture.home.forget(&tag("kd1b")).expect("works");
    assert_eq!(
        (fixture.text("id_own"), fixture.text("kinfold_config")),
        ("private".into(), String::new())
    );
    assert!(fixture.home.given_key(&fixture.top.path().join("no")).is_err());
    assert!(
        fixture.home.allows_by_others(&PublicKey::parse(BOB).expect("is one")).is_ok_and(|it| !it)
    );
    fixture.put("authorized_keys", format!("no-pty {BOB} x\n"));
    assert!(
        fixture.home.allows_by_others(&PublicKey::parse(BOB).expect("is one")).is_ok_and(|it| it)
    );
}

#[test]
fn t13_what_is_installed_follows_to_a_new_id() {
    let fixture = Fixture::new();
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made").path;
    fixture.put("authorized_keys", format!("{BOB} x kinfold:kd1other\n"));
    fixture.home.allow(&access("kd1b")).expect("works");
    fixture.home.reach(&host("kd1b", "desk", key)).expect("works");
    fixture.home.retag(&tag("kd1b"), &tag("kd1c")).expect("works");
    let installed = fixture.home.installed().expect("can be read");
    let found = installed.iter().find(|one| one.tag == tag("kd1c")).expect("is there");
    assert!(found.host.is_some() && found.access.len() == 1);
    assert_eq!(found.host.as_ref().map(|host| host.host_keys.len()), Some(1));
    assert!(installed.iter().all(|one| one.tag != tag("kd1b")));
    assert!(fixture.text("authorized_keys").contains("kinfold:kd1other"));
    assert!(fixture.judged("desk").contains("user bob\n"));
}

#[test]
fn attack_21_the_key_of_a_device_that_is_put_out_opens_by_no_other_line_of_ours() {
    let fixture = Fixture::new();
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIS1iTMeKYdWwPPCrFoElHQzkZ1tpLSLkF5dRQFNEdZy";
    fixture.put("authorized_keys", format!("{BOB} by hand\n"));
    // The same key under two ids: the device was set up anew, and paired again.
    fixture.home.allow(&access("kd1old")).expect("works");
    fixture.home.allow(&access("kd1new")).expect("works");
    let key = PublicKey::parse(other).expect("is one");
    fixture.home.allow(&Access { key: key.clone(), ..access("kd1other") }).expect("works");
    fixture.home.forget(&tag("kd1new")).expect("works");
    let left = fixture.home.installed().expect("can be read");
    let left: Vec<&str> = left.iter().map(|one| one.tag.as_str()).collect();
    assert_eq!(left, ["kd1other"]);
    // What a person wrote stays, and is known of.
    assert!(fixture.text("authorized_keys").starts_with(&format!("{BOB} by hand\n")));
    let bob = PublicKey::parse(BOB).expect("is one");
    assert!(fixture.home.allows_by_others(&bob).expect("can be read"));
    assert!(!fixture.home.allows_by_others(&key).expect("can be read"));
}

#[test]
fn attack_19_a_pin_that_is_left_of_another_device_goes_with_the_next_owner_of_its_name() {
    let fixture = Fixture::new();
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made");
    fixture.home.reach(&host("kd1first", "desk", key.path.clone())).expect("works");
    // Its block is gone, its pins are not: a person removed it, or a kill came between the two.
    fixture.put("kinfold_config", "");
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIS1iTMeKYdWwPPCrFoElHQzkZ1tpLSLkF5dRQFNEdZy";
    let mut second = host("kd1second", "desk", key.path);
    second.host_keys = vec![PublicKey::parse(other).expect("is one")];
    fixture.home.reach(&second).expect("works");
    let known = fixture.text("known_hosts");
    let pins: Vec<&str> = known.lines().filter(|line| line.starts_with("desk ")).collect();
    assert!(pins.len() == 1 && pins[0].contains(other), "{known}");
}

#[test]
fn what_has_ended_goes_with_the_next_change_and_nothing_else_does() {
    let fixture = Fixture::new();
    let ended = Access { expires: Some(1_000_000_000), ..access("kd1ended") };
    let lasts = Access { expires: Some(4_000_000_000), ..access("kd1lasts") };
    let foreign = format!("expiry-time=\"20010101\" {BOB} bob\n");
    fixture.put("authorized_keys", format!("{foreign}{}{}", ended.line(), lasts.line()));
    fixture.home.allow(&access("kd1new")).expect("can be changed");
    assert_eq!(
        fixture.text("authorized_keys"),
        format!("{foreign}{}{}", lasts.line(), access("kd1new").line())
    );
    // A new leave for the one whose leave has ended takes its place.
    fixture.put("authorized_keys", format!("{}{foreign}", ended.line()));
    fixture.home.allow(&access("kd1ended")).expect("can be changed");
    let text = format!("{}{foreign}", access("kd1ended").line());
    assert_eq!(fixture.text("authorized_keys"), text);
    fixture.put("authorized_keys", format!("{}{foreign}{}", ended.line(), lasts.line()));
    fixture.home.revoke(&tag("kd1lasts")).expect("can be changed");
    assert_eq!(fixture.text("authorized_keys"), foreign);
}

#[test]
fn several_leaves_of_one_device_stand_beside_each_other() {
    let fixture = Fixture::new();
    let here = Access { from: vec!["10.0.0.0/8".parse().expect("is one")], ..access("kd1a") };
    let leaves = [here, Access { expires: Some(4_000_000_000), ..access("kd1a") }];
    fixture.home.allow_each(&tag("kd1a"), &leaves).expect("can be changed");
    let text: String = leaves.iter().map(Access::line).collect();
    assert_eq!(fixture.text("authorized_keys"), text);
    assert_eq!(fixture.home.installed().expect("can be read")[0].access.len(), 2);
}

#[test]
fn t24_a_name_that_only_ssh_finds_is_not_taken() {
    let fixture = Fixture::new();
    let key = fixture.home.key_or_new(KeyKind::Ed25519, "x").expect("can be made");
    let text = "Match exec \"test %h = desk\"\n  User somebody\n";
    fixture.put("config", text);
    let proposed = fixture.home.propose(&tag("kd1a"), "desk").expect("there is one");
    assert_eq!(proposed.as_str(), "desk-2");
    let error = fixture.home.reach(&host("kd1a", "desk", key.path.clone())).expect_err("is used");
    assert!(error.to_string().contains("ssh -G"), "{error}");
    assert_eq!(fixture.text("config"), text);
    // One of ours stays ours, and can be installed again.
    for _ in 0..2 {
        fixture.home.reach(&host("kd1a", "desk-2", key.path.clone())).expect("is free");
    }
    // A device that is called as this one is.
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let proposed = fixture.home.propose(&tag("kd1b"), &own).expect("there is one");
    assert_ne!(proposed, Alias::suggested(&own));
    assert_ne!(
        fixture.home.propose(&tag("kd1b"), "localhost").expect("is one").as_str(),
        "localhost"
    );
}

//! Bad input gets one clear line, a hint and exit code 2, and nothing is created.

use snapbox::str;

use crate::Home;

#[track_caller]
fn refused(home: &Home, args: &[&str], stderr: impl snapbox::IntoData) {
    let before = home.inventory();
    home.kin().args(args).assert().code(2).stdout_eq("").stderr_eq(stderr);
    assert_eq!(home.inventory(), before, "something was created");
}

#[test]
fn no_directory() {
    refused(
        &Home::new(),
        &["sync"],
        str![[r#"
error: no directory is given
hint: say which folder to sync, for example: kin sync ~/Shared

"#]],
    );
}

#[test]
fn a_directory_that_does_not_exist() {
    for args in [&["sync", "missing"][..], &["sync", "-d", "missing"], &["demo", "missing"]] {
        refused(
            &Home::new(),
            args,
            str![[r#"
error: missing does not exist
hint: create it first, for example with mkdir -p

"#]],
        );
    }
}

#[test]
fn a_file_given_for_a_directory() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "x").expect("there is room");
    for args in [&["sync", "file"][..], &["demo", "file"]] {
        refused(
            &home,
            args,
            str![[r#"
error: file is not a directory
hint: give the directory that holds it

"#]],
        );
    }
    refused(
        &home,
        &["sync", "file/below"],
        str![[r#"
error: file/below is not a directory
hint: a file is in the way; check the spelling

"#]],
    );
}

#[test]
fn both_ways_to_name_the_directory() {
    refused(
        &Home::new(),
        &["sync", "folder", "-d", "folder"],
        str![[r#"
error: the argument '[DIR]' cannot be used with '--path <DIR>'

Usage: kin sync <DIR>

For more information, try '--help'.

"#]],
    );
}

#[test]
fn two_ways_to_let_in() {
    let home = Home::new();
    home.kin().args(["sync", "folder", "--open", "--passphrase"]).assert().code(2).stdout_eq("");
    home.kin().args(["sync", "folder", "--timeout", "5"]).assert().code(2).stdout_eq("");
}

#[test]
fn malformed_addresses() {
    refused(
        &Home::new(),
        &["sync", "folder", "-a", "laptop"],
        str![[r#"
error: --peer: "laptop" is not HOST:PORT: the port is missing
hint: write for example laptop.local:9000, 192.168.1.7:9000 or [fe80::1]:9000

"#]],
    );
    refused(
        &Home::new(),
        &["sync", "folder", "-a", "::1:9000"],
        str![[r#"
error: --peer: "::1:9000" is not HOST:PORT: an IPv6 address needs brackets
hint: write for example laptop.local:9000, 192.168.1.7:9000 or [fe80::1]:9000

"#]],
    );
}

#[test]
fn control_characters_in_name_and_topic() {
    refused(
        &Home::new(),
        &["sync", "folder", "-n", "a\x1b[31mb"],
        str![[r#"
error: --name: "a/u{1b}[31mb" has a control character (U+001B)
hint: use letters, digits, spaces and punctuation

"#]],
    );
    refused(
        &Home::new(),
        &["sync", "folder", "--topic", "a\nb"],
        str![[r#"
error: --topic: "a/nb" has a control character (U+000A)
hint: use letters, digits, spaces and punctuation

"#]],
    );
    let long = "x".repeat(65);
    let home = Home::new();
    home.kin().args(["sync", "folder", "-n", &long]).assert().code(2).stderr_eq(str![[r#"
error: --name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is 65 bytes long
hint: use at most 64 bytes

"#]]);
}

#[test]
fn a_bad_pattern() {
    refused(
        &Home::new(),
        &["sync", "folder", "-e", "a{b"],
        str![[r#"
error: --exclude: "a{b" is not a pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
hint: patterns are those of .gitignore, for example '*.tmp', 'build/' or '/notes/**'

"#]],
    );
}

#[test]
fn numbers_out_of_range() {
    refused(
        &Home::new(),
        &["sync", "folder", "--max-concurrent-transfers", "0"],
        str![[r#"
error: --max-concurrent-transfers: 0 is out of range
hint: use a number from 1 to 64; 4 is the default

"#]],
    );
    let home = Home::new();
    home.kin().args(["sync", "folder", "-p", "65536"]).assert().code(2).stdout_eq("");
}

#[test]
fn an_unknown_key_in_the_config() {
    let home = Home::new().config("path = 'folder'\n\nprot = 9000\n");
    refused(
        &home,
        &["sync"],
        str![[r#"
error: [HOME]/kin.toml, line 3: unknown field `prot`, expected one of `path`, `port`, `name`, `peer`, `no_discovery`, `exclude`, `topic`, `max_concurrent_transfers`, `max_deletes`, `history_days`, `history_share`, `device`
hint: the keys are path, port, name, peer, no_discovery, exclude, topic, max_concurrent_transfers, max_deletes, history_days and history_share, and in [device] port, no_discovery and relay

"#]],
    );
}

#[test]
fn a_bad_value_in_the_config() {
    let home = Home::new().config("path = 'folder'\npeer = ['a:1', 'b']\n");
    refused(
        &home,
        &["sync"],
        str![[r#"
error: [HOME]/kin.toml, line 2: peer: "b" is not HOST:PORT: the port is missing
hint: write for example laptop.local:9000, 192.168.1.7:9000 or [fe80::1]:9000

"#]],
    );
}

#[test]
fn a_path_in_the_config_starts_at_its_file() {
    let home = Home::new().config("path = 'nowhere'\n");
    refused(
        &home,
        &["sync"],
        str![[r#"
error: [HOME]/nowhere does not exist
hint: create it first, for example with mkdir -p

"#]],
    );
}

#[test]
fn an_unreadable_config() {
    let home = Home::new();
    std::fs::create_dir(home.path().join("kin.toml")).expect("there is room");
    refused(
        &home,
        &["sync", "folder"],
        str![[r#"
error: [HOME]/kin.toml is not a regular file
hint: this is the config file; mend it or move it away

"#]],
    );
    std::fs::remove_dir(home.path().join("kin.toml")).expect("is empty");
    std::fs::write(home.path().join("kin.toml"), b"\xff").expect("there is room");
    refused(
        &home,
        &["sync", "folder"],
        str![[r#"
error: [HOME]/kin.toml is not UTF-8 text
hint: this is the config file; mend it or move it away

"#]],
    );
}

#[test]
fn a_bad_passphrase_file() {
    let home = Home::new();
    refused(
        &home,
        &["sync", "folder", "--passphrase-file", "missing"],
        str![[r#"
error: missing does not exist
hint: a passphrase file has one line and only you can read it (chmod 600)

"#]],
    );
    std::fs::write(home.path().join("pass"), "secret\n").expect("there is room");
    chmod(&home, "pass", 0o644);
    refused(
        &home,
        &["sync", "folder", "--passphrase-file", "pass"],
        str![[r#"
error: pass is open to other users (mode 0644); it must be 0600 or 0400
hint: a passphrase file has one line and only you can read it (chmod 600)

"#]],
    );
    chmod(&home, "pass", 0o600);
    std::fs::write(home.path().join("pass"), "two\nlines\n").expect("there is room");
    refused(
        &home,
        &["sync", "folder", "--passphrase-file", "pass"],
        str![[r#"
error: the passphrase file pass has a control character or a second line in it
hint: write it on one line, with nothing else

"#]],
    );
}

#[test]
fn attack_15_a_passphrase_given_as_an_argument_is_refused_and_not_repeated() {
    let home = Home::new();
    refused(
        &home,
        &["sync", "folder", "--passphrase=quagga-zebra"],
        str![[r#"
error: a passphrase is no argument: others on this machine can read those
hint: say --passphrase alone and type it when you are asked, or keep it in a file: --passphrase-file FILE

"#]],
    );
}

#[test]
fn input_that_ends_at_the_passphrase_prompt() {
    let home = Home::new();
    let before = home.inventory();
    home.kin().args(["sync", "folder", "--passphrase"]).stdin("").assert().code(2).stdout_eq("");
    assert_eq!(home.inventory(), before, "something was created");
}

#[test]
fn with_json_the_error_is_an_event() {
    let home = Home::new();
    home.kin().args(["sync", "missing", "--json"]).assert().code(2).stderr_eq("").stdout_eq(str![[r#"
{"event":"error","kind":"dir_missing","message":"missing does not exist","hint":"create it first, for example with mkdir -p"}

"#]]);
}

#[test]
fn a_folder_that_holds_the_devices_own_keys() {
    let home = Home::new();
    let before = home.inventory();
    refused(
        &home,
        &["sync", "."],
        str![[r#"
error: [HOME] holds this device's own keys and groups, [HOME], which never travel
hint: give a directory without them, or keep them elsewhere: KIN_HOME says where

"#]],
    );
    assert_eq!(home.inventory(), before, "something was created");
}

#[test]
fn no_permission() {
    let home = Home::new();
    chmod(&home, "folder", 0o000);
    let before = home.inventory();
    let Some(kin) = without_privileges(&home) else {
        return;
    };
    kin.args(["sync", "folder", "--no-discovery", "--once", "--timeout", "1"])
        .assert()
        .code(2)
        .stdout_eq("");
    chmod(&home, "folder", 0o700);
    assert_eq!(home.inventory(), before, "something was created");
}

#[test]
fn a_port_in_use_that_was_asked_for() {
    let taken = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("there is a free port");
    let port = taken.local_addr().expect("is bound").port().to_string();
    let home = Home::new();
    let before = home.inventory();
    let args = ["sync", "folder", "-p", &port, "--no-discovery", "--once", "--timeout", "1"];
    let refused = home.kin().args(args).assert().code(2).stdout_eq("");
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains(&port) && stderr.contains("hint: "), "{stderr}");
    assert_eq!(home.inventory(), before, "something was created");
}

fn chmod(home: &Home, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(home.path().join(name), permissions).expect("is ours");
}

/// `kin` as somebody whom modes stop: as it is, or for root without capabilities; `None` if that cannot
/// be had here.
fn without_privileges(home: &Home) -> Option<snapbox::cmd::Command> {
    if std::fs::read_dir(home.folder()).is_err() {
        return Some(home.kin());
    }
    let setpriv = ["--inh-caps=-all", "--bounding-set=-all"];
    let works = std::process::Command::new("setpriv").args(setpriv).arg("true").status();
    if !works.is_ok_and(|status| status.success()) {
        #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
        {
            eprintln!("skipped: root without setpriv is stopped by no mode");
        }
        return None;
    }
    let kin = snapbox::cmd::Command::new("setpriv").with_assert(home.assert()).args(setpriv);
    Some(kin.arg(env!("CARGO_BIN_EXE_kin")).current_dir(home.path()).env("KIN_HOME", home.path()))
}

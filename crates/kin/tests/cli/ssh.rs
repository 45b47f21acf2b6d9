//! `kin ssh`: what needs no other device.

use std::{fs, process};

use serde_json::Value;

use crate::Home;

/// What a run printed as JSON, line by line.
fn lines(assert: &snapbox::cmd::OutputAssert) -> Vec<Value> {
    let text = String::from_utf8(assert.get_output().stdout.clone()).expect("is text");
    text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICxqHnumWOS3matZEZhKv39MaG0kQXKvR4IFqfepTSjz";

/// A book of one device that may come in and is reached.
fn book(home: &Home, alias: &str, key: &str) {
    let book = format!(
        r#"{{"kinfold_ssh":1,"devices":[{{"device":"kd1abc","name":"De\u001bsk","allowed":[{{"key":"{key}","expires":4000000000,"from":"10.0.0.0/8"}}],
        "host":{{"alias":"{alias}","user":"alice","addr":"10.0.0.2","port":22,"host_keys":["{KEY}"]}}}}]}}"#
    );
    fs::write(home.path().join("book.json"), book).expect("there is room");
}

#[test]
fn with_nothing_installed_nothing_is_listed_and_nothing_is_made() {
    let home = Home::new();
    home.kin().args(["ssh", "hosts"]).assert().success().stdout_eq("");
    home.kin().args(["ssh", "keys"]).assert().success().stdout_eq("");
    assert!(lines(&home.kin().args(["ssh", "hosts", "--json"]).assert().success()).is_empty());
    assert!(!home.path().join(".ssh").exists(), "looking makes nothing");
    for command in ["test", "unpair"] {
        let failed = home.kin().args(["ssh", command, "desk"]).assert().code(2);
        failed
            .stderr_eq("error: nothing is installed for desk\nhint: kin ssh hosts lists what is\n");
    }
    home.kin().args(["ssh"]).assert().code(2);
}

#[test]
fn keys_are_made_listed_and_removed_and_no_file_is_overwritten() {
    let home = Home::new();
    let made = lines(&home.kin().args(["ssh", "keys", "generate", "--json"]).assert().success());
    let path = made[0]["path"].as_str().expect("a path").to_owned();
    assert!(path.ends_with("/.ssh/kinfold_ed25519"), "{path}");
    let first = fs::read(&path).expect("was made");
    let more = ["ssh", "keys", "generate", "--comment", "me", "--json"];
    let made = lines(&home.kin().args(more).assert().success());
    let second = made[0]["path"].as_str().expect("a path").to_owned();
    assert!(second.ends_with("/.ssh/kinfold_ed25519_2"), "{second}");
    assert_eq!(fs::read(&path).expect("is there"), first);
    let public = fs::read_to_string(format!("{second}.pub")).expect("was made");
    assert!(public.ends_with(" me\n"), "{public}");
    let shown = process::Command::new("ssh-keygen").args(["-lf", &second]).output();
    let shown = String::from_utf8(shown.expect("ssh-keygen").stdout).expect("is text");
    assert!(shown.contains(made[0]["fingerprint"].as_str().expect("is text")), "{shown}");
    let used: Vec<bool> = lines(&home.kin().args(["ssh", "keys", "--json"]).assert().success())
        .iter()
        .map(|key| key["used"] == true)
        .collect();
    assert_eq!(used, [false, true]);
    // Without an answer it stays; a key of somebody else's is none of ours.
    home.kin().args(["ssh", "keys", "remove", &path]).stdin("").assert().code(1);
    assert_eq!(fs::read(&path).expect("is there"), first);
    home.kin().args(["ssh", "keys", "remove", &path]).stdin("y\n").assert().success();
    assert!(!fs::exists(&path).expect("can be looked at"));
    fs::write(home.path().join(".ssh/id_rsa"), "mine").expect("there is room");
    let other = home.path().join(".ssh/id_rsa");
    home.kin().args(["ssh", "keys", "remove", "--yes"]).arg(other).assert().code(2);
    home.kin().args(["ssh", "keys", "generate", "-c", "a\nb"]).assert().code(2);
}

#[test]
fn settings_are_shown_changed_and_checked() {
    let home = Home::new();
    let run = |args: &[&str]| home.kin().args(["ssh", "config"]).args(args).assert();
    run(&["add-subnet", "10.0.2.0/24"]).success();
    run(&["add-subnet", "10.0.2.0/24"]).success();
    run(&["add-subnet", "10.0.2.1/24"]).code(2);
    run(&["set-sshd-port", "2222"]).success();
    run(&["set-sshd-port", "0"]).code(2);
    run(&["set-default-key", "/nowhere/key"]).code(2);
    run(&["set-sshd-config", "/nowhere"]).code(2);
    let shown = lines(&run(&["--json"]).success());
    assert_eq!(shown, [serde_json::json!({ "subnets": ["10.0.2.0/24"], "sshd_port": 2222 })]);
    run(&["remove-subnet", "10.0.2.0/24"]).success();
    run(&["remove-subnet", "10.0.2.0/24"]).code(2);
    fs::write(home.path().join("ssh.toml"), "nonsense").expect("there is room");
    run(&[]).code(1);
}

#[test]
fn t23_an_import_asks_for_each_key_and_an_export_holds_no_private_one() {
    let home = Home::new();
    book(&home, "desk", KEY);
    // The end of the input is a no, and so is anything but y.
    for answers in ["", "yes\nno\n", "n\nn\n"] {
        let args = ["ssh", "import", "book.json", "--json"];
        let said = lines(&home.kin().args(args).stdin(answers).assert().success());
        let asked: Vec<_> = said.iter().filter(|line| line["event"] == "ask").collect();
        assert_eq!(asked.len(), 2, "{said:?}");
        assert!(
            asked
                .iter()
                .all(|one| one["fingerprint"].as_str().is_some_and(|it| it.starts_with("SHA256:")))
        );
        assert_eq!((&said[2]["installed"], &said[2]["left"]), (&0.into(), &2.into()));
    }
    let installed =
        || fs::read_to_string(home.path().join(".ssh/authorized_keys")).unwrap_or_default();
    assert_eq!(installed(), "");
    let done = home.kin().args(["ssh", "import", "book.json"]).stdin("y\ny\n").assert().success();
    assert!(!String::from_utf8_lossy(&done.get_output().stderr).contains('\u{1b}'), "escaped");
    assert!(
        installed().starts_with("from=\"10.0.0.0/8\",expiry-time=\"20961002070640Z\" ssh-ed25519 ")
    );
    let hosts = lines(&home.kin().args(["ssh", "hosts", "--json"]).assert().success());
    assert_eq!((&hosts[0]["alias"], &hosts[0]["allowed"]), (&"desk".into(), &true.into()));
    home.kin().args(["ssh", "export", "out.json"]).assert().success();
    home.kin().args(["ssh", "export", "out.json"]).assert().code(1);
    let out = fs::read_to_string(home.path().join("out.json")).expect("was made");
    assert!(out.contains(KEY) && !out.contains("PRIVATE"), "{out}");
    home.kin().args(["ssh", "unpair", "desk"]).assert().success();
    assert_eq!(installed(), "");
    assert_eq!(fs::read(home.path().join(".ssh/config")).expect("was made"), b"");
    home.kin().args(["ssh", "import", "out.json"]).stdin("y\ny\n").assert().success();
    assert!(installed().contains("kinfold:kd1abc"));
}

#[test]
fn t23_an_import_shows_terms_and_widens_nothing() {
    let home = Home::new();
    let leave = |more: &str| format!(r#"{{"key":"{KEY}"{more}}}"#);
    let (here, soon) = (leave(r#","from":"10.0.0.0/8""#), leave(r#","expires":4000000000"#));
    let ended = leave(r#","expires":1000000000"#);
    let text = format!(
        r#"{{"kinfold_ssh":1,"devices":[{{"device":"kd1abc","name":"Desk","allowed":[{here},{soon},{ended}]}}]}}"#
    );
    fs::write(home.path().join("book.json"), text).expect("there is room");
    let import = ["ssh", "import", "book.json"];
    let done = home.kin().args(import).stdin("y\ny\ny\n").assert().success();
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(said.contains(", from 10.0.0.0/8, for ever?"), "{said}");
    assert!(said.contains(", from anywhere, until 2096-10-02"), "{said}");
    assert!(said.contains("its leave has ended") && said.contains("2 installed, 1 left"), "{said}");
    let file = home.path().join(".ssh/authorized_keys");
    let installed = fs::read_to_string(&file).expect("was made");
    assert_eq!(installed.lines().count(), 2, "both leaves: {installed}");
    let asked = lines(&home.kin().args(import).arg("--json").stdin("").assert().success());
    assert_eq!(asked[0]["from"], serde_json::json!(["10.0.0.0/8"]));
    assert_eq!(asked[1]["expires"], 4_000_000_000_i64);
    // Of a line that a person has narrowed in a way that kin does not write, nothing wider is made.
    let narrowed = installed.replace("from=\"10.0.0.0/8\"", "command=\"true\",from=\"10.0.0.0/8\"");
    assert_ne!(narrowed, installed);
    fs::write(&file, narrowed).expect("there is room");
    let done = home.kin().args(["ssh", "export"]).assert().success();
    let output = done.get_output();
    let book: Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    let allowed = book["devices"][0]["allowed"].as_array().expect("is a list").clone();
    assert!(allowed.len() == 1 && allowed[0]["expires"] == 4_000_000_000_i64, "{allowed:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Desk is left out"));
}

#[test]
fn attack_16_a_book_with_anything_odd_in_it_installs_nothing() {
    let home = Home::new();
    for (alias, key) in [
        ("github.com", KEY),
        ("-x", KEY),
        ("desk\\nProxyCommand x", KEY),
        ("desk", "ssh-dss AAAA"),
        ("desk", "command=\\\"sh\\\" ssh-ed25519 AAAA"),
        ("desk", "ssh-ed25519 AAAA\\nssh-ed25519 BBBB"),
    ] {
        book(&home, alias, key);
        let failed =
            home.kin().args(["ssh", "import", "book.json"]).stdin("y\ny\n").assert().code(2);
        let said = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
        assert!(said.contains("book.json: De\\u{1b}sk: "), "{said}");
        assert!(!home.path().join(".ssh/authorized_keys").exists());
        assert!(!home.path().join(".ssh/config").exists());
    }
    for bad in ["", "{}", "[]", "{\"kinfold_ssh\":2,\"devices\":[]}"] {
        fs::write(home.path().join("book.json"), bad).expect("there is room");
        home.kin().args(["ssh", "import", "book.json"]).assert().code(2);
    }
    home.kin().args(["ssh", "import", "nowhere.json"]).assert().code(2);
}

#[test]
fn rotate_and_allow_say_what_is_missing() {
    let home = Home::new();
    let failed = home.kin().args(["ssh", "rotate"]).assert().code(1);
    failed.stderr_eq(
        "error: no device is reached by a key that kin made\nhint: kin ssh hosts lists devices and their keys\n",
    );
    assert!(!home.path().join(".ssh").exists(), "no key is made for nothing");
    home.kin().args(["ssh", "allow", "desk"]).assert().code(2);
    home.kin().args(["ssh", "allow"]).assert().code(2);
    home.kin().args(["ssh", "allow", "desk", "--yes"]).assert().code(2);
    home.kin().args(["ssh", "allow", "--all"]).assert().code(1);
}

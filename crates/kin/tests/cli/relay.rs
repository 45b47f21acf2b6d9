//! `kin relay`, as its operator sees it.

use std::path::Path;

use lab::KinCommand;

use crate::Home;

#[test]
fn a_relay_says_its_address_and_keeps_it_and_stops_when_it_is_told_to() {
    let home = Home::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let args = ["relay", "--json", "--listen", "127.0.0.1:0", "--host", "relay.example.org"];
        let program = Path::new(env!("CARGO_BIN_EXE_kin"));
        let mut relay = KinCommand::local(program, home.path(), &args).start();
        let listening = relay.expect("listening");
        let port = listening["port"].as_u64().expect("a port");
        let address = listening["address"].as_str().expect("an address");
        let key = address.strip_prefix(&format!("kin:relay/relay.example.org:{port}/"));
        addresses.push(key.expect("host and port").to_owned());
        assert!(addresses.iter().all(|key| key.starts_with("kr1")), "{addresses:?}");
        assert_eq!(listening["store"], "sqlite");
        relay.interrupt();
        assert_eq!(relay.exit_code(), Some(0));
    }
    assert_eq!(addresses[0], addresses[1], "the key stays");
}

#[test]
fn what_a_relay_cannot_be_told_is_said() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "").expect("there is room");
    for (args, message) in [
        (["--listen", "8443"], "error: --listen: 8443 is no address to listen on\nhint: say"),
        (["--store", "mysql://x:secret@y/z"], "error: there is no store of this kind\nhint: say"),
        (["--cert", "x.pem"], "error: --cert and --cert-key go together\n"),
        (["--config", "none.toml"], "error: none.toml does not exist\n"),
        (["--host", "a b"], "error: the address that clients are told makes no sense"),
        (["--connections", "0"], "error: --connections: 0 makes no sense\nhint: say at least 1"),
        (["--public-port", "0"], "error: --public-port: 0 makes no sense\nhint: say at least 1"),
        (["--dir", "file"], "error: file is not a directory\nhint: give a directory"),
    ] {
        let run = home.kin().arg("relay").args(args).assert().code(2).stdout_eq("");
        let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(stderr.contains(message) && !stderr.contains("secret"), "{stderr}");
    }
    let run = home.kin().args(["relay", "--json", "--listen", "x"]).assert().code(2);
    let stdout = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    let error: serde_json::Value = serde_json::from_str(&stdout).expect("one line of JSON");
    assert_eq!((&error["event"], &error["kind"]), (&"error".into(), &"usage".into()));
}

#[test]
fn a_port_that_is_in_use_is_bad_input() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let at = taken.local_addr().expect("it has one").to_string();
    let run = home.kin().args(["relay", "--json", "--listen", &at]).assert().code(2);
    let stdout = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    let error: serde_json::Value = serde_json::from_str(&stdout).expect("one line of JSON");
    assert_eq!(error["kind"], "port_in_use");
}

#[test]
fn a_relay_whose_key_is_gone_takes_no_new_one_unasked() {
    let home = Home::new();
    let run = || {
        let args = ["relay", "--json", "--listen", "127.0.0.1:0", "--host", "127.0.0.1"];
        KinCommand::local(Path::new(env!("CARGO_BIN_EXE_kin")), home.path(), &args).start()
    };
    let mut relay = run();
    let before = relay.expect("listening")["address"].clone();
    relay.interrupt();
    assert_eq!(relay.exit_code(), Some(0));
    let dir = home.path().join(".local/state/kin-relay");
    std::fs::remove_file(dir.join("relay.key")).expect("it was made");
    let mut refused = run();
    assert_eq!(refused.exit_code(), Some(1));
    let error = refused.expect("error");
    assert!(error["message"].to_string().contains("relay.key is missing"), "{error}");
    assert!(!dir.join("relay.key").exists());
    // Who removes the store, too, means it.
    for name in ["relay.db", "relay.db-wal", "relay.db-shm"] {
        // The last two are there only while it runs.
        let _ = std::fs::remove_file(dir.join(name));
    }
    let mut anew = run();
    assert_ne!(anew.expect("listening")["address"], before);
    anew.interrupt();
    assert_eq!(anew.exit_code(), Some(0));
}

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
    for (args, message) in [
        (["--listen", "8443"], "error: --listen: 8443 is no address to listen on\nhint: say"),
        (["--store", "mysql://x:secret@y/z"], "error: there is no store of this kind\nhint: say"),
        (["--cert", "x.pem"], "error: --cert and --cert-key go together\n"),
        (["--config", "none.toml"], "error: none.toml does not exist\n"),
        (["--host", "a b"], "error: the address that clients are told makes no sense"),
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

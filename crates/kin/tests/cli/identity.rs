//! `kin id`: keys that outlive a run.

use std::os::unix::fs::PermissionsExt as _;

use crate::Home;

fn id(home: &Home) -> String {
    let run = home.kin().arg("id").assert().success().stderr_eq("");
    String::from_utf8(run.get_output().stdout.clone()).expect("is text")
}

#[test]
fn the_id_stays_the_same_and_its_keys_are_private() {
    let home = Home::new();
    let first = id(&home);
    assert!(first.starts_with("kd1") && first.lines().count() == 1, "{first}");
    assert_eq!(id(&home), first);
    for key in ["device.key", "inbox.key"] {
        let stat = std::fs::metadata(home.path().join(key)).expect("was made");
        assert_eq!(stat.permissions().mode() & 0o777, 0o600, "{key}");
    }
    let json = home.kin().args(["id", "--json"]).assert().success();
    let json: serde_json::Value =
        serde_json::from_slice(&json.get_output().stdout).expect("is JSON");
    assert_eq!(json, serde_json::json!({ "event": "id", "device": first.trim() }));
    assert_ne!(id(&Home::new()), first, "another device");
}

#[test]
fn without_kin_home_keys_are_in_the_state_directory() {
    let home = Home::new();
    for (var, dir) in [("XDG_STATE_HOME", "xdg"), ("HOME", "user")] {
        let base = home.path().join(dir);
        let kin = home.kin().env_remove("KIN_HOME").env(var, &base);
        kin.arg("id").assert().success();
        let state = if var == "HOME" { base.join(".local/state/kin") } else { base.join("kin") };
        assert!(state.join("device.key").is_file(), "{}", state.display());
    }
    let alone = home.kin().env_remove("KIN_HOME").arg("id").assert().code(1);
    let said = String::from_utf8_lossy(&alone.get_output().stderr).into_owned();
    assert!(said.starts_with("error: there is no place for this device's keys\nhint: "), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let home = Home::new();
    id(&home);
    let key = home.path().join("device.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("is ours");
    let said = home.kin().arg("id").assert().code(1).stdout_eq("");
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("device.key is open to other users (mode 0644)"), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
    let json = home.kin().args(["id", "--json"]).assert().code(1);
    let json: serde_json::Value =
        serde_json::from_slice(&json.get_output().stdout).expect("is JSON");
    assert_eq!((&json["event"], &json["kind"]), (&"error".into(), &"permission".into()));
}

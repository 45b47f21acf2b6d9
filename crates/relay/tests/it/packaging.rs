//! What is shipped around the relay: the program itself with a certificate, the container file, the systemd unit.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use relay::{Client, RelayAddress, operate::DEFAULT_PORT};
use serde_json::Value;
use wire::relay::LookupId;

fn certificate(name: &str) -> PathBuf {
    lab::files::package().join("tests/it/certificate").join(name)
}

fn repository() -> PathBuf {
    lab::files::package().join("../..")
}

fn text(path: &str) -> String {
    let bytes = lab::files::read(repository().join(path));
    String::from_utf8(bytes.unwrap_or_else(|| panic!("{path} is not there"))).unwrap()
}

/// The program, as an operator starts it; killed when it is dropped.
struct Program {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kin-relay"))
            .args(args)
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// As a service manager ends it.
    fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_program_is_known_by_the_certificate_that_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    // Keys are read only where nobody else can read them.
    let key = dir.path().join("key.pem");
    lab::files::write(&key, lab::files::read(certificate("key.pem")).unwrap());
    lab::files::set_mode(&key, 0o600);
    let (state, key) = (dir.path().join("relay"), key.to_str().unwrap().to_owned());
    let state = state.to_str().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--host", "localhost", "--json", "--dir", state];
    let chain = certificate("chain.pem").to_str().unwrap().to_owned();
    // By flags, and in the environment.
    let flags = [&args[..], &["--cert", &chain, "--cert-key", &key]].concat();
    let environment = [("KIN_RELAY_CERT", chain.as_str()), ("KIN_RELAY_CERT_KEY", key.as_str())];
    for (args, environment) in [(&flags[..], &[][..]), (&args[..], &environment[..])] {
        let mut relay = Program::start(args, environment);
        let said: Value = serde_json::from_str(&relay.line()).unwrap();
        let address: RelayAddress = said["address"].as_str().unwrap().parse().unwrap();
        assert_eq!((address.key(), address.host()), (None, "localhost"));
        let authority = lab::files::read(certificate("authority.pem")).unwrap();
        let client = Client::with_authority(&address, &authority).unwrap();
        assert_eq!(client.get(LookupId([1; 32])).await.unwrap(), None);
        assert_eq!(relay.terminate(), Some(0));
    }
    // With a certificate for another name no device would come.
    let other: Vec<&str> = flags
        .iter()
        .map(|arg| if *arg == "localhost" { "other.example.org" } else { arg })
        .collect();
    let mut refused = Program::start(&other, &[]);
    let said: Value = serde_json::from_str(&refused.line()).unwrap();
    assert!(said["message"].as_str().unwrap().contains("other.example.org"), "{said}");
    assert_eq!(refused.child.wait().unwrap().code(), Some(2));
    // A key that others can read, or that is not the certificate's, is refused with the file's name.
    lab::files::set_mode(&key, 0o644);
    let mut refused = Program::start(&flags, &[]);
    let said: Value = serde_json::from_str(&refused.line()).unwrap();
    assert!(said["message"].as_str().unwrap().contains("key.pem"), "{said}");
    assert_ne!(refused.child.wait().unwrap().code(), Some(0));
}

/// Instructions of the container file, their first word apart; what goes on in the next line is put together.
fn instructions() -> Vec<(String, String)> {
    let whole = text("packaging/Containerfile").replace("\\\n", " ");
    let lines = whole.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| line.split_once(' ').expect("an instruction and what it is about"))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// Nothing here can build a container; what it names must be there.
#[test]
fn what_the_container_file_names_is_there() {
    let all = instructions();
    let of = |word: &str| -> Vec<&str> {
        all.iter().filter(|it| it.0 == word).map(|it| it.1.as_str()).collect()
    };
    let manifest: toml::Table = text("crates/relay/Cargo.toml").parse().unwrap();
    let program = manifest["bin"][0]["name"].as_str().unwrap();
    let built = format!("/src/target/release/{program}");
    let installed = format!("/usr/local/bin/{program}");
    assert!(of("RUN").iter().any(|run| {
        run.starts_with("cargo build --release --locked -p relay")
            && run.ends_with(&format!("--bin {program}"))
    }));
    assert!(of("COPY").contains(&format!("--from=build {built} {installed}").as_str()));
    assert_eq!(of("ENTRYPOINT"), [format!("[\"{installed}\"]")]);
    assert_eq!(of("EXPOSE"), [DEFAULT_PORT.to_string()]);
    assert_eq!(of("STOPSIGNAL"), ["SIGTERM"]);
    // The compiler is as new as the workspace wants it, and the system is the same in both stages.
    let workspace: toml::Table = text("Cargo.toml").parse().unwrap();
    let wanted = workspace["workspace"]["package"]["rust-version"].as_str().unwrap();
    let [from, base] = of("FROM")[..] else { panic!("two stages") };
    assert!(from.contains(&format!("/rust:{wanted}-")) && from.ends_with(" AS build"), "{from}");
    assert!(from.contains("-bookworm") && base.contains(":bookworm-"), "{from}, {base}");
    // It runs as somebody who owns its directory and nothing else, and keeps what it keeps there.
    let ([user], [volume]) = (&of("USER")[..], &of("VOLUME")[..]) else { panic!("one of each") };
    let made = of("RUN").into_iter().find(|run| run.contains("useradd")).unwrap();
    assert!(made.contains(&format!("--home-dir {volume} --create-home {user}")), "{made}");
    assert_eq!(of("ENV"), [format!("KIN_RELAY_DIR={volume}")]);
    // What is built is not left out of what is copied.
    for left_out in text(".containerignore").lines() {
        assert!(["target", "fuzz", ".git"].contains(&left_out), "{left_out}");
    }
}

#[tokio::test]
async fn it_runs_with_what_the_container_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().to_str().unwrap();
    let environment = [("KIN_RELAY_DIR", volume), ("KIN_RELAY_LISTEN", "127.0.0.1:0")];
    let environment = [&environment[..], &[("KIN_RELAY_HOST", "127.0.0.1")]].concat();
    let mut relay = Program::start(&[], &environment);
    let address: RelayAddress = relay.line().parse().unwrap();
    let client = Client::new(&address).unwrap();
    assert_eq!(client.get(LookupId([1; 32])).await.unwrap(), None);
    assert_eq!(relay.terminate(), Some(0));
    assert!(dir.path().join("relay.key").exists() && dir.path().join("relay.db").exists());
}

/// What `systemd-analyze` says of the unit, with the program where it is here; why it cannot be asked.
fn verified(dir: &Path) -> Result<std::process::Output, String> {
    let unit = text("packaging/kin-relay.service");
    let program = "/usr/local/bin/kin-relay";
    assert!(unit.contains(&format!("ExecStart={program} --config /etc/kin-relay.toml\n")));
    let unit = unit.replace(program, env!("CARGO_BIN_EXE_kin-relay"));
    let path = dir.join("kin-relay.service");
    lab::files::write(&path, unit);
    let verify = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    verify.map_err(|error| format!("systemd-analyze: {error}"))
}

#[test]
fn the_systemd_unit_has_no_mistake_and_keeps_the_state_for_itself() {
    let unit = text("packaging/kin-relay.service");
    for line in [
        "DynamicUser=yes",
        "StateDirectory=kin-relay",
        "StateDirectoryMode=0700",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "CapabilityBoundingSet=",
        "UMask=0077",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    match verified(dir.path()) {
        Ok(said) => {
            let words = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.status.success() && !words.contains("kin-relay.service:"), "{words}");
        }
        // What is above holds all the same.
        Err(missing) => eprintln!("SKIPPED, the second half: {missing}"),
    }
}

#[test]
fn the_guide_names_what_is_shipped() {
    let guide = text("docs/relay.md");
    for name in ["packaging/kin-relay.service", "packaging/Containerfile"] {
        assert!(guide.contains(name) && fs_exists(name), "{name}");
    }
}

fn fs_exists(path: &str) -> bool {
    lab::files::read(repository().join(path)).is_some()
}

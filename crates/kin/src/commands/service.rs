//! `kin service`: starts the device with each login, by systemd or launchd.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{answers, error::CommandError, escape::escape, output::screen::Screen};

/// What the unit and the agent are called.
const UNIT: &str = "kin.service";
const LABEL: &str = "kin.device";

/// What a device is told of where its state is, if its user was.
const PASSED_ON: [&str; 4] = ["KIN_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "RUST_LOG"];

/// Start the device with each login
#[derive(Args, Debug)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    action: Action,

    /// Print a JSON object
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Install a systemd user unit, or a launchd agent on macOS, and start it
    Install,
    /// Stop and remove it
    Uninstall,
    /// Print it
    Print,
}

/// Who starts services here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manager {
    Systemd,
    Launchd,
}

/// Runs it to its end.
pub(crate) fn run(screen: &Screen, args: &ServiceArgs) -> Result<(), CommandError> {
    let manager = if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        CommandError::failed("io", &format!("{what}: {error}"))
    };
    let program = env::current_exe().map_err(|error| failed("where kin is", &error))?;
    let called = env::args_os().next().unwrap_or_default();
    let program = as_called(&program, Path::new(&called), &env::var_os("PATH").unwrap_or_default());
    let vars = PASSED_ON.iter().filter_map(|name| {
        let value = env::var(name).ok().filter(|value| !value.is_empty())?;
        // The service runs in another directory.
        let value = match *name {
            "RUST_LOG" => value,
            _ => std::path::absolute(value).ok()?.to_string_lossy().into_owned(),
        };
        Some((*name, value))
    });
    let vars: Vec<(&str, String)> = vars.collect();
    let text = match manager {
        Manager::Systemd => unit(&program, &vars),
        Manager::Launchd => agent(&program, &vars),
    };
    if matches!(args.action, Action::Print) {
        return answers::lines(&[text.trim_end()]);
    }
    let file = place(manager, |name| env::var_os(name).map(PathBuf::from))?;
    let shown = escape(&file.to_string_lossy());
    let value = json!({ "event": "service", "file": file.to_string_lossy() });
    if matches!(args.action, Action::Install) {
        tree::install_file(&file, text.as_bytes()).map_err(|error| failed(&shown, &error))?;
        let commands = starting(manager, &file);
        for (number, command) in commands.iter().enumerate() {
            order(command).map_err(|why| {
                let rest: Vec<String> =
                    commands.iter().skip(number).map(|command| command.join(" ")).collect();
                CommandError::failed("service", &format!("{shown} is there; {why}"))
                    .hint(&format!("do it yourself, in your own session: {}", rest.join(" && ")))
            })?;
        }
        let said = format!("The device runs, and starts with each login: {shown}");
        return answers::done(screen, args.json, &value, &said);
    }
    for command in stopping(manager, &file) {
        // One that does not run cannot be stopped.
        if let Err(why) = order(&command) {
            screen.line(&format!("note: {}", escape(&why)));
        }
    }
    let was = tree::remove_installed(&file).map_err(|error| failed(&shown, &error))?;
    let said = if was { "is removed" } else { "was not there" };
    answers::done(screen, args.json, &value, &format!("{shown} {said}."))
}

/// The program under the name that it was called by: a link that leads to it leads to the next version, too.
fn as_called(program: &Path, called: &Path, path: &OsStr) -> PathBuf {
    let is_a_place = called.parent().is_some_and(|dir| !dir.as_os_str().is_empty());
    let places: Vec<PathBuf> = match is_a_place {
        true => vec![called.to_owned()],
        false => env::split_paths(path).map(|dir| dir.join(called)).collect(),
    };
    let leads_here = |place: &Path| {
        place.canonicalize().is_ok_and(|place| program.canonicalize().is_ok_and(|it| it == place))
    };
    let mut found = places.into_iter().filter_map(|place| std::path::absolute(place).ok());
    found.find(|place| leads_here(place)).unwrap_or_else(|| program.to_owned())
}

/// Where the file belongs.
fn place(manager: Manager, var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, CommandError> {
    let dir = |name| var(name).filter(|dir: &PathBuf| dir.is_absolute());
    let config = || dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")));
    let place = match manager {
        Manager::Systemd => config().map(|dir| dir.join("systemd").join("user").join(UNIT)),
        Manager::Launchd => dir("HOME")
            .map(|dir| dir.join("Library").join("LaunchAgents").join(format!("{LABEL}.plist"))),
    };
    place.ok_or_else(|| {
        CommandError::failed("no_home", "there is no place for a service of yours")
            .hint("set HOME to your home directory")
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn starting(manager: Manager, file: &Path) -> Vec<Vec<String>> {
    let file = file.to_string_lossy();
    match manager {
        Manager::Systemd => vec![
            words(&["systemctl", "--user", "daemon-reload"]),
            words(&["systemctl", "--user", "enable", "--now", UNIT]),
        ],
        Manager::Launchd => vec![words(&["launchctl", "load", "-w", &file])],
    }
}

fn stopping(manager: Manager, file: &Path) -> Vec<Vec<String>> {
    let file = file.to_string_lossy();
    match manager {
        Manager::Systemd => vec![words(&["systemctl", "--user", "disable", "--now", UNIT])],
        Manager::Launchd => vec![words(&["launchctl", "unload", "-w", &file])],
    }
}

/// Runs a command of the service manager.
fn order(command: &[String]) -> Result<(), String> {
    let [program, args @ ..] = command else { return Ok(()) };
    let ended = Command::new(program).args(args).stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| format!("{program} cannot be run: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.lines().next().unwrap_or("it did not say why").to_owned();
    Err(format!("{} failed: {said}", command.join(" ")))
}

/// A systemd user unit. What it forbids, the device never does; where the folders are, nobody knows
/// beforehand, so that no part of the disk is hidden.
fn unit(program: &Path, vars: &[(&str, String)]) -> String {
    let mut environment = String::new();
    for (name, value) in vars {
        // Writing to a string cannot fail.
        let _ = writeln!(environment, "Environment={}", quoted(&format!("{name}={value}")));
    }
    format!(
        "[Unit]
Description=Kinfold: this device's links and folders
Documentation=man:kin(1)
After=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} up --foreground
{environment}Restart=on-failure
RestartSec=5
TimeoutStopSec=90
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
",
        program = quoted(&program.to_string_lossy().replace('$', "$$")),
    )
}

/// A word of a unit file: in quotes, with what systemd would take for something else (systemd.syntax(7),
/// systemd.unit(5) on specifiers).
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A launchd agent.
fn agent(program: &Path, vars: &[(&str, String)]) -> String {
    let mut environment = String::new();
    for (name, value) in vars {
        let _ =
            write!(environment, "    <key>{name}</key>\n    <string>{}</string>\n", in_xml(value));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<plist version=\"1.0\">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
    <string>{program}</string>
    <string>up</string>
    <string>--foreground</string>
  </array>
  <key>EnvironmentVariables</key>
  <dict>
{environment}  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
</dict>
</plist>
",
        program = in_xml(&program.to_string_lossy()),
    )
}

fn in_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use lab::files;

    use super::*;

    #[test]
    fn a_unit_says_what_runs_and_odd_paths_stay_one_word() {
        let vars = [("KIN_HOME", "/home/a b/100%\"\n".to_owned())];
        let text = unit(Path::new("/opt/k in/$kin"), &vars);
        assert!(text.contains("\nExecStart=\"/opt/k in/$$kin\" up --foreground\n"), "{text}");
        assert!(text.contains("\nEnvironment=\"KIN_HOME=/home/a b/100%%\\\"\\n\"\n"), "{text}");
        assert!(text.contains("\nType=notify\n") && text.contains("\nNoNewPrivileges=yes\n"));
        // What the folders need.
        for never in ["ProtectHome", "ProtectSystem", "PrivateTmp", "ReadOnlyPaths"] {
            assert!(!text.contains(never), "{never}");
        }
    }

    #[test]
    fn an_agent_is_xml() {
        let vars = [("KIN_HOME", "/a&b<c>".to_owned())];
        let text = agent(Path::new("/opt/kin"), &vars);
        assert!(text.contains("<string>/opt/kin</string>\n    <string>up</string>"), "{text}");
        assert!(text.contains("<string>/a&amp;b&lt;c&gt;</string>"), "{text}");
        assert_eq!(text.matches("<dict>").count(), text.matches("</dict>").count());
    }

    #[cfg(unix)]
    #[test]
    fn the_program_is_named_by_the_link_that_it_was_called_by() {
        let dir = tempfile::tempdir().unwrap();
        let [there, link, other] = ["kin-1", "kin", "other"].map(|name| dir.path().join(name));
        files::write(&there, "the program");
        files::write(&other, "another");
        std::os::unix::fs::symlink("kin-1", &link).unwrap();
        let path = env::join_paths([Path::new("/nowhere"), dir.path()]).unwrap();
        let called = |name: &str| as_called(&there, Path::new(name), &path);
        assert_eq!(called("kin"), link);
        assert_eq!(called(link.to_str().unwrap()), link);
        // A login shell, another program of that name, nothing at all.
        for name in ["-kin", "other", ""] {
            assert_eq!(called(name), there, "{name}");
        }
    }

    #[test]
    fn the_file_is_where_the_manager_looks() {
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/ann"));
        assert_eq!(
            place(Manager::Systemd, home).unwrap(),
            Path::new("/home/ann/.config/systemd/user/kin.service")
        );
        assert_eq!(
            place(Manager::Launchd, home).unwrap(),
            Path::new("/home/ann/Library/LaunchAgents/kin.device.plist")
        );
        assert!(place(Manager::Systemd, |_| Some(PathBuf::from("relative"))).is_err());
    }
}

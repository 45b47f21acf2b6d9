//! The configuration file. Its reader belongs to the program `kin` and to no library: lib.rs reads in its
//! source.

use std::path::Path;

use crate::config::Config;

/// The text of a `kin.toml`.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, home) = (Path::new("/c/kin/kin.toml"), Path::new("/home/ann"));
    match Config::parse(file, &text, Some(home)) {
        Ok(config) => {
            let lines = text.split('\n').count();
            let line = |line: Option<usize>| assert!((1..=lines).contains(&line.unwrap_or(1)));
            line(config.path.as_ref().map(|value| value.line));
            line(config.port.as_ref().map(|value| value.line));
            line(config.peer.as_ref().map(|value| value.line));
            line(config.exclude.as_ref().map(|value| value.line));
            line(config.topic.as_ref().map(|value| value.line));
            if let Some(path) = &config.path {
                assert!(path.value.is_absolute(), "a path that depends on where one is");
            }
            assert_eq!(Config::parse(file, &text, Some(home)), Ok(config));
        }
        Err(error) => {
            assert_eq!(error.exit.code(), 2);
            assert!(error.message.starts_with("/c/kin/kin.toml, line "), "{}", error.message);
            assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
        }
    }
}

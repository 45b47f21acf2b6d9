//! The judge: what users wrote, what is found in the end, and whether that will do. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Contents that users wrote.
#[derive(Default, Debug)]
pub(super) struct Written {
    /// Each with true if a user who saw it replaced or deleted it.
    contents: BTreeMap<Vec<u8>, bool>,
}

impl Written {
    /// A user writes this.
    pub(super) fn note(&mut self, contents: &[u8]) {
        self.contents.insert(contents.to_vec(), false);
    }

    /// A user who sees this replaces or deletes it.
    pub(super) fn replaced(&mut self, contents: &[u8]) {
        if let Some(replaced) = self.contents.get_mut(contents) {
            *replaced = true;
        }
    }

    /// What must be somewhere.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.contents.iter().filter(|(_, replaced)| !**replaced).map(|(contents, _)| contents)
    }

    /// True if a user wrote this, or was about to: a file that is written in place is empty first, then holds
    /// a part.
    fn explains(&self, contents: &[u8]) -> bool {
        let from = self.contents.range(contents.to_vec()..);
        contents.is_empty() || from.take(1).any(|(whole, _)| whole.starts_with(contents))
    }
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    /// A file, with its contents, permission bits, and time of modification in nanoseconds since 1970.
    File(Vec<u8>, u32, i64),
    /// A directory, with its permission bits.
    Dir(u32),
    /// A symbolic link and its target.
    Link(String),
    /// Anything else.
    Other,
}

/// A folder: what is in it, and what is kept beside it.
#[derive(Clone, Default, Debug)]
pub(super) struct Found {
    /// What travels.
    pub(super) tree: BTreeMap<PathBuf, Node>,
    /// Contents in `.kin`, history above all.
    pub(super) kept: BTreeSet<Vec<u8>>,
}

/// At most so many problems are told of.
const MOST: usize = 20;

/// Why two trees are not equal; nothing if they are.
pub(super) fn differences(folders: &[Found]) -> Vec<String> {
    let mut problems = Vec::new();
    let Some((first, others)) = folders.split_first() else { return problems };
    for (number, other) in others.iter().enumerate() {
        let paths: BTreeSet<_> = first.tree.keys().chain(other.tree.keys()).collect();
        for path in paths {
            let [one, two] = [first, other].map(|folder| folder.tree.get(path));
            if one != two {
                let [one, two] = [one, two].map(describe);
                let number = number + 1;
                problems.push(format!(
                    "{}: {one} in folder 0, {two} in folder {number}",
                    path.display()
                ));
            }
        }
    }
    problems.truncate(MOST);
    problems
}

/// What is wrong in the end: trees that differ, contents that are lost, contents that nobody wrote.
pub(super) fn judge(written: &Written, folders: &[Found]) -> Vec<String> {
    let mut problems = differences(folders);
    let mut somewhere: BTreeSet<&[u8]> = BTreeSet::new();
    for folder in folders {
        somewhere.extend(folder.kept.iter().map(Vec::as_slice));
        for (path, node) in &folder.tree {
            let Node::File(contents, ..) = node else { continue };
            somewhere.insert(contents);
            if !written.explains(contents) {
                problems.push(format!("{}: nobody wrote this: {}", path.display(), show(contents)));
            }
        }
    }
    for contents in written.wanted().filter(|wanted| !somewhere.contains(wanted.as_slice())) {
        problems.push(format!("lost: {}", show(contents)));
    }
    problems.truncate(MOST);
    problems
}

fn describe(node: Option<&Node>) -> String {
    match node {
        None => "nothing".to_owned(),
        Some(Node::File(contents, mode, mtime)) => {
            format!("{} (mode {mode:o}, mtime {mtime})", show(contents))
        }
        Some(Node::Dir(mode)) => format!("a directory (mode {mode:o})"),
        Some(Node::Link(target)) => format!("a link to {target}"),
        Some(Node::Other) => "something else".to_owned(),
    }
}

fn show(contents: &[u8]) -> String {
    let start = String::from_utf8_lossy(&contents[..contents.len().min(40)]).into_owned();
    format!("{start:?} of {} bytes", contents.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)], kept: &[&str]) -> Found {
        let node = |text: &str| Node::File(text.into(), 0o644, 5);
        Found {
            tree: files.iter().map(|(path, text)| (path.into(), node(text))).collect(),
            kept: kept.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }

    fn wrote(contents: &[&str]) -> Written {
        let mut written = Written::default();
        contents.iter().for_each(|text| written.note(text.as_bytes()));
        written
    }

    #[test]
    fn equal_trees_that_hold_everything_are_well() {
        let written = wrote(&["one", "two"]);
        let both = folder(&[("a", "one")], &["two"]);
        assert!(judge(&written, &[both.clone(), both]).is_empty());
    }

    #[test]
    fn a_damaged_tree_is_found() {
        let written = wrote(&["one", "two"]);
        let well = folder(&[("a", "one"), ("b", "two")], &[]);
        let damaged: [(&str, &[(&str, &str)]); 4] = [
            ("missing", &[("a", "one")]),
            ("other contents", &[("a", "one"), ("b", "one")]),
            ("one more", &[("a", "one"), ("b", "two"), ("c", "one")]),
            ("cut", &[("a", "one"), ("b", "tw")]),
        ];
        for (what, files) in damaged {
            let problems = judge(&written, &[well.clone(), folder(files, &[])]);
            assert_eq!(problems.len(), 1, "{what}: {problems:?}");
        }
        let mut other_mode = well.clone();
        other_mode.tree.insert("b".into(), Node::File("two".into(), 0o600, 5));
        assert_eq!(judge(&written, &[well.clone(), other_mode]).len(), 1);
        let mut other_time = well.clone();
        other_time.tree.insert("b".into(), Node::File("two".into(), 0o644, 6));
        assert_eq!(judge(&written, &[well.clone(), other_time]).len(), 1);
        let mut link = well.clone();
        link.tree.insert("b".into(), Node::Link("two".into()));
        assert_eq!(judge(&written, &[well, link]).len(), 1);
    }

    #[test]
    fn what_is_in_no_tree_and_no_history_is_lost_unless_it_was_replaced() {
        let mut written = wrote(&["one", "two", "three"]);
        let both = [folder(&[("a", "one")], &[]), folder(&[("a", "one")], &["three"])];
        assert_eq!(judge(&written, &both), ["lost: \"two\" of 3 bytes"]);
        written.replaced(b"two");
        assert!(judge(&written, &both).is_empty());
    }

    #[test]
    fn a_mixture_is_found_but_a_file_half_written_by_its_user_is_not() {
        let written = wrote(&["first contents", "other contents"]);
        let both = |text| [folder(&[("a", text)], &["first contents", "other contents"])];
        for well in ["first contents", "first", ""] {
            assert!(judge(&written, &both(well)).is_empty(), "{well}");
        }
        for mixture in ["first other", "contents", "first contents and"] {
            assert_eq!(judge(&written, &both(mixture)).len(), 1, "{mixture}");
        }
    }
}

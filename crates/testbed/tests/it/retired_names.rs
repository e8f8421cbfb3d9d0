//! Names that were replaced by a word of the field do not come back: `docs/retired-names.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dependencies::{toml_of, workspace};

/// What stands before the name of an item where it is defined.
const KEYWORDS: [&str; 8] = [
    "struct", "enum", "union", "trait", "type", "fn", "const", "mod",
];

/// All Rust files in a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The names of the items that a source defines.
fn defined(source: &str) -> impl Iterator<Item = &str> {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let pairs = words.windows(2).filter(|pair| KEYWORDS.contains(&pair[0]));
        pairs.map(|pair| pair[1]).collect::<Vec<_>>()
    })
}

#[test]
fn definitions_are_found_in_code_alone() {
    let source =
        "/// A type Flight.\npub(crate) struct SharedLoad<V>(V);\n// fn land\nconst fn join() {}";
    let found: Vec<&str> = defined(source).collect();
    assert_eq!(found, ["SharedLoad", "fn", "join"]);
}

#[test]
fn retired_names_stay_away() {
    let retired = toml_of("docs/retired-names.toml");
    let files = retired["files"].as_table().unwrap();
    assert!(!files.is_empty());
    for (old, new) in files {
        assert!(!workspace().join(old).exists(), "{old} is {new} now");
        let new = new.as_str().unwrap();
        assert!(
            workspace().join(new).exists(),
            "{new} took the place of {old}"
        );
    }
    for (folder, items) in retired["items"].as_table().unwrap() {
        let items = items.as_table().unwrap();
        let sources = sources(&workspace().join(folder));
        let mut known = Vec::new();
        for path in sources {
            let source = fs::read_to_string(&path).unwrap();
            for name in defined(&source) {
                let new = items.get(name);
                assert!(new.is_none(), "{}: {name} is {new:?} now", path.display());
                known.push(name.to_owned());
            }
        }
        for (old, new) in items {
            let new = new.as_str().unwrap();
            let is_there = known.iter().any(|name| name == new);
            assert!(is_there, "{new} took the place of {old} in {folder}");
        }
    }
}

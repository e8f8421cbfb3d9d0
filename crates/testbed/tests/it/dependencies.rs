//! Dependencies are licensed, and come from where, as `deny.toml` says. What is built here has been
//! downloaded, so as a rule no network is needed. Advisories are looked for by `.ci/run`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn toml_of(file: &str) -> toml::Table {
    fs::read_to_string(workspace().join(file))
        .unwrap()
        .parse()
        .unwrap()
}

/// A list of texts in `deny.toml`.
fn allowed(section: &str, key: &str) -> BTreeSet<String> {
    let texts = toml_of("deny.toml")[section][key]
        .as_array()
        .unwrap()
        .clone();
    texts
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// Every package of the graph, as it is built on this platform.
fn packages() -> Vec<Value> {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = |more: &[&str]| {
        Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--locked",
                "--all-features",
                "--format-version=1",
            ])
            .args(["--filter-platform", host])
            .args(more)
            .current_dir(workspace())
            .output()
            .unwrap()
    };
    // Without network, if all of the graph is here: the measurements' part of it may not be.
    let mut told = metadata(&["--offline"]);
    if !told.status.success() {
        told = metadata(&[]);
    }
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{errors}");
    let metadata: Value = serde_json::from_slice(&told.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Why a package's licence does not do; `None` if it does.
fn refused(licence: Option<&str>, allowed: &BTreeSet<String>) -> Option<String> {
    let Some(licence) = licence else {
        return Some("names no licence".into());
    };
    // Some crates write `MIT/Apache-2.0`.
    let read = Expression::parse_mode(licence, ParseMode::LAX);
    let Ok(expression) = read else {
        return Some(format!("names {licence:?}, which is no expression of SPDX"));
    };
    let does = expression.evaluate(|wanted| {
        let id = wanted.license.id().map(|id| id.name);
        id.is_some_and(|id| allowed.contains(id))
    });
    (!does).then(|| format!("is licensed as {licence:?}, which deny.toml does not allow"))
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let (packages, allowed) = (packages(), allowed("licenses", "allow"));
    assert!(packages.len() > 100);
    let refused: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let why = refused(package["license"].as_str(), &allowed)?;
            Some(format!("{} {} {why}", package["name"], package["version"]))
        })
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // Each licence is needed by something: the list does not grow by itself.
    for licence in &allowed {
        let mut fewer = allowed.clone();
        fewer.remove(licence);
        let needed = |package: &Value| self::refused(package["license"].as_str(), &fewer).is_some();
        let common = ["MIT", "Apache-2.0"].contains(&&**licence);
        assert!(
            common || packages.iter().any(needed),
            "nothing needs {licence}"
        );
    }
}

#[test]
fn licences_are_read_as_spdx_says() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Zlib".to_owned()]);
    for (licence, does) in [
        (Some("MIT"), true),
        (Some("MIT/Apache-2.0"), true),
        (Some("GPL-3.0-only OR MIT"), true),
        (Some("MIT AND Zlib"), true),
        (Some("MIT AND GPL-3.0-only"), false),
        (Some("GPL-3.0-only"), false),
        (Some("free as in beer"), false),
        (None, false),
    ] {
        assert_eq!(refused(licence, &allowed).is_none(), does, "{licence:?}");
    }
}

#[test]
fn every_dependency_comes_from_an_allowed_registry_with_its_checksum() {
    let lock = toml_of("Cargo.lock");
    let allowed = allowed("sources", "allow-registry");
    for package in lock["package"].as_array().unwrap() {
        // Those of this workspace have no source.
        let Some(source) = package.get("source").and_then(toml::Value::as_str) else {
            continue;
        };
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        assert!(allowed.contains(registry), "{package}");
        assert!(package.get("checksum").is_some(), "{package}");
    }
}

#[test]
fn no_dependency_is_of_any_version() {
    for package in packages()
        .iter()
        .filter(|package| package["source"].is_null())
    {
        for dependency in package["dependencies"].as_array().unwrap() {
            let of_path = dependency["path"].is_string();
            assert!(
                of_path || dependency["req"] != "*",
                "{}: {dependency}",
                package["name"]
            );
        }
    }
}

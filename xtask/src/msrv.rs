//! The stated Rust version: no dependency asks for more, and that Rust compiles the workspace.

use std::collections::HashMap;

use serde_json::Value;

use crate::command::{Failure, capture, run};

/// The workspace's, which every member takes over.
const STATED: &str = env!("CARGO_PKG_RUST_VERSION");

const METADATA: &str = "cargo metadata --locked --format-version 1";

type Version = [u64; 3];

pub(crate) fn check() -> Result<(), Failure> {
    println!("==> {METADATA}");
    let offenders = offenders(&capture(METADATA)?, STATED)
        .map_err(|error| Failure::new(format!("{METADATA}: {error}")))?;
    if !offenders.is_empty() {
        let list = offenders.join("\n  ");
        return Err(Failure::new(format!("rust-version is {STATED}, but\n  {list}")));
    }
    println!("no package asks for more than Rust {STATED}");

    let installed = capture("rustup toolchain list").unwrap_or_default();
    match toolchain(&installed, STATED) {
        Some(name) => {
            run(&format!("cargo +{name} check --locked --workspace --all-targets"))?;
        }
        None => println!(
            "Rust {STATED} is not installed; clippy's incompatible_msrv (on by default, reads \
             rust-version) and the check of the packages stand in for it"
        ),
    }
    Ok(())
}

/// The packages that the workspace's members reach and that ask for a newer Rust than is stated.
fn offenders(metadata: &str, stated: &str) -> Result<Vec<String>, String> {
    let limit = version(stated).ok_or(format!("'{stated}' is no version"))?;
    let metadata: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
    let packages = by_id(&metadata["packages"])?;
    let mut offenders = Vec::new();
    for id in reached(&metadata)? {
        let package = packages.get(id).ok_or(format!("no package '{id}'"))?;
        let Some(asks) = package["rust_version"].as_str() else { continue };
        let asked = version(asks).ok_or(format!("'{asks}' of '{id}' is no version"))?;
        if asked > limit {
            let name = package["name"].as_str().unwrap_or(id);
            let own = package["version"].as_str().unwrap_or("?");
            offenders.push(format!("{name} {own} asks for {asks}"));
        }
    }
    offenders.sort();
    Ok(offenders)
}

/// The members of the workspace and all that they depend on, each once.
fn reached(metadata: &Value) -> Result<Vec<&str>, String> {
    let mut nodes = by_id(&metadata["resolve"]["nodes"])?;
    let mut waiting = texts(&metadata["workspace_members"])?;
    let mut reached = Vec::new();
    while let Some(id) = waiting.pop() {
        if let Some(node) = nodes.remove(id) {
            reached.push(id);
            waiting.extend(texts(&node["dependencies"])?);
        }
    }
    Ok(reached)
}

fn by_id(list: &Value) -> Result<HashMap<&str, &Value>, String> {
    let entries = list.as_array().ok_or("a list is missing")?;
    let pair = |entry| Some((Value::get(entry, "id")?.as_str()?, entry));
    entries.iter().map(pair).collect::<Option<_>>().ok_or("an entry without an id".into())
}

fn texts(list: &Value) -> Result<Vec<&str>, String> {
    let entries = list.as_array().ok_or("a list is missing")?;
    entries.iter().map(Value::as_str).collect::<Option<_>>().ok_or("an entry is no text".into())
}

/// The installed toolchain of exactly this version, in the words of `rustup toolchain list`.
fn toolchain<'a>(installed: &'a str, stated: &str) -> Option<&'a str> {
    let names = installed.lines().filter_map(|line| line.split_whitespace().next());
    let of = |name: &str| version(name.split('-').next().unwrap_or_default());
    let stated = version(stated)?;
    names.into_iter().find(|name| of(name) == Some(stated))
}

/// "1.88" is 1.88.0.
fn version(text: &str) -> Option<Version> {
    let mut version = Version::default();
    for (index, part) in text.split('.').enumerate() {
        *version.get_mut(index)? = part.parse().ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("1.88"), version("1.88.0"));
        assert!(version("1.9") < version("1.88"));
        assert!(version("1.88.1") > version("1.88"));
        assert!(version("2") > version("1.100.3"));
        for text in ["", "stable", "1.x", "1..2", "1.2.3.4", "1.88.0-beta"] {
            assert_eq!(version(text), None, "{text}");
        }
    }

    #[test]
    fn a_toolchain_is_taken_only_if_its_version_is_the_stated_one() {
        let installed = "stable-x86_64-unknown-linux-gnu (active, default)\n\
                         1.88.1-x86_64-unknown-linux-gnu\n1.88.0-x86_64-unknown-linux-gnu\n";
        assert_eq!(toolchain(installed, "1.88"), Some("1.88.0-x86_64-unknown-linux-gnu"));
        assert_eq!(
            toolchain("1.88-x86_64-apple-darwin\n", "1.88"),
            Some("1.88-x86_64-apple-darwin")
        );
        assert_eq!(toolchain(installed, "1.95"), None);
        assert_eq!(toolchain("no installed toolchains\n", "1.88"), None);
        assert_eq!(toolchain("", "1.88"), None);
    }

    /// Member m depends on a, a on b and on m again; nothing depends on c.
    const GRAPH: &str = r#"{
        "workspace_members": ["m"],
        "packages": [
            {"id": "m", "name": "member", "version": "0.1.0", "rust_version": "1.88"},
            {"id": "a", "name": "near", "version": "1.0.0", "rust_version": null},
            {"id": "b", "name": "far", "version": "2.0.1", "rust_version": "1.88.1"},
            {"id": "c", "name": "apart", "version": "3.0.0", "rust_version": "1.99"}
        ],
        "resolve": {"nodes": [
            {"id": "m", "dependencies": ["a"]}, {"id": "a", "dependencies": ["b", "m"]},
            {"id": "b", "dependencies": []}, {"id": "c", "dependencies": []}
        ]}
    }"#;

    #[test]
    fn packages_that_ask_for_more_are_named() {
        assert_eq!(offenders(GRAPH, "1.88").unwrap(), ["far 2.0.1 asks for 1.88.1"]);
        let all = ["far 2.0.1 asks for 1.88.1", "member 0.1.0 asks for 1.88"];
        assert_eq!(offenders(GRAPH, "1.9").unwrap(), all);
        assert!(offenders(GRAPH, "1.88.1").unwrap().is_empty());
    }

    #[test]
    fn other_metadata_is_an_error() {
        assert!(offenders("", "1.88").is_err());
        assert!(offenders("{}", "1.88").is_err());
        assert!(offenders(GRAPH, "new").is_err());
    }
}

//! The adapters that the command `kullback devices --json` finds.

use std::fmt;

use serde_json::Value;

use crate::command::{Failure, capture};

const DEVICES: &str = "built/kullback devices --json";

/// One adapter, and how its self-test went.
#[derive(Debug, PartialEq)]
pub(crate) struct Adapter {
    name: String,
    kind: String,
    self_test: String,
}

impl Adapter {
    pub(crate) fn works(&self) -> bool {
        self.self_test == "ok"
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), self-test: {}", self.name, self.kind, self.self_test)
    }
}

/// Looks for a working adapter, the preferred one first. Prints all that it finds.
pub(crate) fn find() -> Result<Option<Adapter>, Failure> {
    println!("==> {DEVICES}");
    let json = match capture(DEVICES) {
        Ok(json) => json,
        Err(failure) => {
            eprintln!("{failure}");
            return Ok(None);
        }
    };
    let adapters = read(&json).map_err(|error| Failure::new(format!("{DEVICES}: {error}")))?;
    for adapter in &adapters {
        println!("found {adapter}");
    }
    Ok(adapters.into_iter().find(Adapter::works))
}

fn read(json: &str) -> Result<Vec<Adapter>, String> {
    let root: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let adapters = root["adapters"].as_array().ok_or("no array 'adapters'")?;
    adapters.iter().map(read_one).collect()
}

fn read_one(adapter: &Value) -> Result<Adapter, String> {
    let text = |key: &str| {
        let value = adapter[key].as_str().ok_or(format!("an adapter without a text '{key}'"))?;
        Ok::<_, String>(value.to_owned())
    };
    Ok(Adapter { name: text("name")?, kind: text("kind")?, self_test: text("self_test")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_read_in_their_order() {
        let json = r#"{"backends": ["cpu"], "adapters": [
            {"name": "A", "kind": "discrete GPU", "self_test": "lost", "api": "vulkan"},
            {"name": "B", "kind": "software", "self_test": "ok"}]}"#;
        let adapters = read(json).unwrap();
        let shown: Vec<String> = adapters.iter().map(Adapter::to_string).collect();
        assert_eq!(shown, ["A (discrete GPU), self-test: lost", "B (software), self-test: ok"]);
        assert_eq!(adapters.iter().map(Adapter::works).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn no_adapters_is_no_error() {
        assert_eq!(read(r#"{"adapters": []}"#), Ok(vec![]));
    }

    #[test]
    fn anything_else_is_an_error() {
        assert!(read("").is_err());
        assert_eq!(read("{}").unwrap_err(), "no array 'adapters'");
        let error = read(r#"{"adapters": [{"name": "A", "kind": "software"}]}"#).unwrap_err();
        assert_eq!(error, "an adapter without a text 'self_test'");
    }
}

//! `kullback devices`.

use serde::Serialize;

use crate::args::Devices;
use crate::failure::Failure;

#[derive(Serialize)]
struct Report {
    adapters: Vec<Entry>,
    /// What `auto` would take.
    auto: String,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    kind: String,
    api: String,
    driver: String,
    /// Whether it computes in f64 too.
    f64: bool,
    /// `ok`, or what failed.
    self_test: String,
}

/// Runs the command.
pub fn run(options: &Devices) -> Result<(), Failure> {
    let report = report();
    if options.json {
        let json = serde_json::to_string_pretty(&report).map_err(Failure::other)?;
        return crate::print(&(json + "\n"));
    }
    let mut text = String::new();
    for adapter in &report.adapters {
        text += &format!(
            "{}\n  kind       {}\n  api        {}\n  driver     {}\n  f64        {}\n  self-test  {}\n",
            adapter.name,
            adapter.kind,
            adapter.api,
            adapter.driver,
            if adapter.f64 { "yes" } else { "no" },
            adapter.self_test
        );
    }
    text += &format!("auto takes {}\n", report.auto);
    crate::print(&text)
}

#[cfg(feature = "gpu")]
fn report() -> Report {
    use kullback::{AdapterKind, Engine, adapters};

    let mut hardware = None;
    let mut failed = false;
    let mut entries = Vec::new();
    for adapter in adapters() {
        let tested = Engine::with_adapter(&adapter).and_then(|engine| engine.self_test());
        if adapter.kind() != AdapterKind::Software {
            failed |= tested.is_err();
            hardware = hardware.or(tested.is_ok().then(|| adapter.name().to_owned()));
        }
        entries.push(Entry {
            name: adapter.name().to_owned(),
            kind: adapter.kind().to_string(),
            api: adapter.api().to_owned(),
            driver: adapter.driver().to_owned(),
            f64: adapter.has_f64(),
            self_test: tested.map_or_else(|error| error.to_string(), |()| "ok".into()),
        });
    }
    let auto = match hardware {
        Some(name) => format!("the CPU or {name}, whichever is measured to finish a batch first"),
        None if failed => "the CPU: no hardware GPU passed its self-test".into(),
        None => "the CPU: no hardware GPU was found".into(),
    };
    Report { adapters: entries, auto }
}

#[cfg(not(feature = "gpu"))]
fn report() -> Report {
    Report { adapters: Vec::new(), auto: "the CPU: built without the feature 'gpu'".into() }
}

//! `kullback devices`.

use std::fmt::{self, Display, Formatter};

use kullback::{Costs, Engine};
use serde::Serialize;

use crate::args::Devices;
use crate::failure::Failure;
use crate::files::printable;

#[derive(Serialize)]
struct Report {
    cpu: Option<Speed>,
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
    speed: Option<Speed>,
}

/// What calls were measured to cost, from data in memory to results in it.
#[derive(Serialize)]
struct Speed {
    microseconds_per_call: f64,
    nanoseconds_per_row: f64,
    probs_bytes_per_second: f64,
    logits_bytes_per_second: f64,
}

impl Speed {
    fn of(engine: &Engine) -> Option<Speed> {
        let Costs { probs, logits, .. } = engine.costs().ok()?;
        Some(Speed {
            microseconds_per_call: 1e6 * probs.per_call,
            nanoseconds_per_row: 1e9 * probs.per_row,
            probs_bytes_per_second: 1.0 / probs.per_byte,
            logits_bytes_per_second: 1.0 / logits.per_byte,
        })
    }
}

impl Display for Speed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let gigabytes = |bytes: f64| if bytes.is_finite() { bytes / 1e9 } else { f64::INFINITY };
        write!(
            f,
            "{:.1} GB/s of probabilities, {:.1} GB/s of logits, {:.1} ns a row, {:.1} µs a call",
            gigabytes(self.probs_bytes_per_second),
            gigabytes(self.logits_bytes_per_second),
            self.nanoseconds_per_row,
            self.microseconds_per_call
        )
    }
}

/// Runs the command.
pub fn run(options: &Devices) -> Result<(), Failure> {
    let report = report();
    if options.json {
        return crate::print_json(&report);
    }
    let mut text = String::new();
    if let Some(speed) = &report.cpu {
        text += &format!("the CPU\n  speed      {speed}\n");
    }
    for adapter in &report.adapters {
        text += &format!(
            "{}\n  kind       {}\n  api        {}\n  driver     {}\n  f64        {}\n  self-test  {}\n",
            adapter.name,
            adapter.kind,
            adapter.api,
            adapter.driver,
            if adapter.f64 { "yes" } else { "no" },
            printable(&adapter.self_test)
        );
        if let Some(speed) = &adapter.speed {
            text += &format!("  speed      {speed}\n");
        }
    }
    text += &format!("auto takes {}\n", report.auto);
    crate::print(&text)
}

#[cfg(feature = "gpu")]
fn report() -> Report {
    use kullback::{AdapterKind, Error, adapters};

    let mut hardware = None;
    let mut failed = false;
    let mut entries = Vec::new();
    for adapter in adapters() {
        let engine = Engine::with_adapter(&adapter);
        let tested = engine.as_ref().map_err(Error::clone).and_then(Engine::self_test);
        let speed = engine.ok().filter(|_| tested.is_ok()).and_then(|engine| Speed::of(&engine));
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
            speed,
        });
    }
    let auto = match hardware {
        Some(name) => format!("the CPU or {name}, whichever is measured to finish a batch first"),
        None if failed => "the CPU: no hardware GPU passed its self-test".into(),
        None => "the CPU: no hardware GPU was found".into(),
    };
    Report { cpu: Speed::of(&Engine::cpu()), adapters: entries, auto }
}

#[cfg(not(feature = "gpu"))]
fn report() -> Report {
    let cpu = Speed::of(&Engine::cpu());
    Report { cpu, adapters: Vec::new(), auto: "the CPU: built without the feature 'gpu'".into() }
}

//! `cargo xtask test`: the tests of every feature set, on a machine that may have only Rust.

use crate::adapter::{self, Adapter};
use crate::command::{Failure, run};
use crate::{install, validation};

/// Packages are built together: for one by itself, whose dependencies have fewer features, cargo builds most of
/// them once more.
const BUILD: &str = "cargo test --locked --workspace --no-run";
const TESTS: [&str; 4] = [
    "cargo test --locked --workspace",
    "built/examples/quickstart",
    "built/examples/nearest_digit",
    "cargo test --locked --package kullback --package kullback-cli --no-default-features",
];

pub(crate) fn run_all() -> Result<(), Failure> {
    // Code that does not compile is not to be taken for a missing adapter.
    run(BUILD)?;
    let adapter = find_or_install()?;
    println!("the tests use {adapter}");
    validation::find_or_install()?;

    let mut times = Vec::new();
    for line in TESTS {
        times.push(format!("{line} ({:.1?})", run(line)?));
    }
    times.push(format!(
        "a part of the suite under validation ({:.1?})",
        validation::check(validation::PART)?
    ));
    println!("all passed: {}", times.join(", "));
    Ok(())
}

/// The adapter for the tests. Without one they fail, none is skipped.
fn find_or_install() -> Result<Adapter, Failure> {
    if let Some(adapter) = adapter::find()? {
        return Ok(adapter);
    }
    println!("no adapter works here; the tests need one for Vulkan, Metal or DX12");
    let by_hand = |why: &str| Failure::new(format!("{why}\n{}", install::BY_HAND));
    install::package(install::DRIVER).map_err(|failure| by_hand(&failure.to_string()))?;
    adapter::find()?.ok_or_else(|| by_hand("still no adapter works"))
}

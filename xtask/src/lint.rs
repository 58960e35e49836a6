//! `cargo xtask lint`: format, lints, documentation and the stated Rust version.

use crate::command::{Failure, run, run_with};
use crate::msrv;

const CLIPPY: [&str; 3] = [
    "--workspace",
    "--package kullback --no-default-features",
    "--package kullback-cli --no-default-features",
];

const DOC: [&str; 2] = ["--workspace", "--package kullback --no-default-features"];

pub(crate) fn run_all() -> Result<(), Failure> {
    run("cargo fmt --all --check")?;
    for set in CLIPPY {
        run(&format!("cargo clippy --locked {set} --all-targets -- --deny warnings"))?;
    }
    for set in DOC {
        run_with(
            "RUSTDOCFLAGS",
            "--deny warnings",
            &format!("cargo doc --locked {set} --no-deps"),
        )?;
    }
    msrv::check()?;
    println!("all passed");
    Ok(())
}

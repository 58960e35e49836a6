//! The same data through this library and its peers: one table of their speeds and their memory.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- --python PYTHON
//!
//! `README.md` says what to install first, `--help` which options there are.

mod plot;
mod readme;
mod tools;

use std::error::Error;
use std::fs;
use std::path::Path;

use contest::{Entrant, Program, Results, Role};

const ENTRANTS: [Entrant; 13] = [
    rust("read", "memory read", Role::Limit),
    rust("cpu", "kullback CPU", Role::Ours),
    rust("gpu", "kullback GPU", Role::Ours),
    python("torch-compile", "torch.compile"),
    python("torch", "PyTorch eager"),
    python("jax", "JAX"),
    python("numpy", "NumPy"),
    python("scipy", "SciPy"),
    rust("burn-flex", "burn flex", Role::Peer),
    rust("burn-ndarray", "burn ndarray", Role::Peer),
    rust("burn-wgpu", "burn wgpu", Role::Peer),
    rust("ndarray-stats", "ndarray-stats", Role::Peer),
    rust("numkong", "numkong", Role::Peer),
];

const fn rust(name: &'static str, title: &'static str, role: Role) -> Entrant {
    Entrant { name, title, role, in_python: false }
}

const fn python(name: &'static str, title: &'static str) -> Entrant {
    Entrant { name, title, role: Role::Peer, in_python: true }
}

fn main() -> Result<(), Box<dyn Error>> {
    contest::run(&Program {
        name: "peers",
        entrants: &ENTRANTS,
        open: tools::open,
        script: include_str!("../speed.py"),
        // 128 MiB, several times the last cache of most machines.
        bins: 1 << 25,
        save,
    })
}

/// The plot and the README's section.
fn save(results: &Results, root: &Path) -> Result<(), Box<dyn Error>> {
    fs::write(root.join("docs").join("speed.svg"), plot::svg(results))?;
    readme::save(results, root)
}

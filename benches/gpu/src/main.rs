//! This library on a GPU beside what the device itself can do, torch.compile and a Triton kernel.
//!
//!     cargo run --release --manifest-path benches/gpu/Cargo.toml -- --python PYTHON
//!
//! The binary needs neither network nor checkout. `README.md` tells how to take it elsewhere.

mod tools;

use std::error::Error;

use contest::{Entrant, Program, Role};

const ENTRANTS: [Entrant; 7] = [
    rust("copy", "copy on device", Role::Limit),
    rust("upload", "bare upload", Role::Limit),
    rust("host", "kullback, host", Role::Ours),
    rust("resident", "kullback", Role::Ours),
    python("torch-copy", "torch copy_", Role::Limit),
    python("torch-compile", "torch.compile", Role::Peer),
    python("triton", "Triton kernel", Role::Peer),
];

const fn rust(name: &'static str, title: &'static str, role: Role) -> Entrant {
    Entrant { name, title, role, in_python: false }
}

const fn python(name: &'static str, title: &'static str, role: Role) -> Entrant {
    Entrant { name, title, role, in_python: true }
}

fn main() -> Result<(), Box<dyn Error>> {
    contest::run(&Program {
        name: "gpu",
        entrants: &ENTRANTS,
        open: tools::open,
        script: include_str!("../tools.py"),
        // 256 MiB, several times the last cache of any GPU.
        bins: 1 << 26,
        save: |_, _| Ok(()),
    })
}

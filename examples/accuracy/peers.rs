//! The same rows for other tools, and their answers.
//!
//! The folder holds the numbers of each cell as they lie in memory, `manifest.json` that says what
//! they are, and, once a tool was run, `TOOL.json` with its answers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use kullback::{Element, Kind};
use serde::{Deserialize, Serialize};

use crate::rows::{BINS, Cell, ROWS, bytes};
use crate::{Tool, Values};

/// Names of columns, the files in which their values stand, and whether they say anything new only of
/// the 16-bit types.
const COLUMNS: [(&str, &str, bool); 5] = [
    ("PyTorch", "torch", false),
    ("PyTorch, upcast to f32", "torch_f32", true),
    ("JAX", "jax", false),
    ("SciPy", "scipy", false),
    ("burn", "burn", false),
];

#[derive(Serialize)]
struct Entry {
    id: String,
    #[serde(rename = "type")]
    element: &'static str,
    p_kind: String,
    q_kind: String,
    p: String,
    q: String,
    rows: usize,
    bins: usize,
}

/// What a tool wrote; null is a value that is not finite.
#[derive(Deserialize)]
struct Answers {
    about: String,
    values: BTreeMap<String, Vec<Option<f64>>>,
}

pub struct Handover {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Handover {
    /// An empty folder but for what others have left there. Answers to an earlier run's rows go.
    pub fn new(folder: &Path) -> io::Result<Handover> {
        fs::create_dir_all(folder)?;
        for (_, file, _) in COLUMNS {
            match fs::remove_file(folder.join(file).with_extension("json")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Handover { folder: folder.to_owned(), entries: Vec::new() })
    }

    pub fn add<T: Element>(&mut self, id: &str, kinds: [Kind; 2], cell: &Cell) -> io::Result<()> {
        let [p, q] = ["p", "q"].map(|side| format!("{id}-{side}.bin"));
        fs::write(self.folder.join(&p), bytes::<T>(&cell.p))?;
        fs::write(self.folder.join(&q), bytes::<T>(&cell.q))?;
        let [p_kind, q_kind] = kinds.map(|kind| kind.to_string());
        let (id, element) = (id.to_owned(), T::NAME);
        self.entries.push(Entry { id, element, p_kind, q_kind, p, q, rows: ROWS, bins: BINS });
        Ok(())
    }

    /// Runs the other tools as far as they are there, and reads what they answered.
    pub fn ask(self, python: &str, burn: bool) -> io::Result<Vec<Tool>> {
        let manifest = serde_json::to_string_pretty(&self.entries)?;
        fs::write(self.folder.join("manifest.json"), manifest)?;
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join("peers");
        run(Command::new(python).arg(peers.join("accuracy.py")).arg(&self.folder));
        if burn {
            let mut cargo = Command::new("cargo");
            cargo.args(["run", "--release", "--locked", "--bin", "burn-accuracy"]);
            cargo.arg("--manifest-path").arg(peers.join("Cargo.toml"));
            run(cargo.arg("--").arg(&self.folder));
        }
        let tool = |(name, file, only_16_bit)| {
            let (about, values) = self.read(file);
            Tool { name, about, only_16_bit, values }
        };
        Ok(COLUMNS.into_iter().map(tool).collect())
    }

    /// What a tool says of itself, and its values.
    fn read(&self, file: &str) -> (String, Option<Values>) {
        let Ok(json) = fs::read(self.folder.join(file).with_extension("json")) else {
            return ("not run".into(), None);
        };
        match serde_json::from_slice(&json) {
            Ok(Answers { about, values }) => {
                let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
                let cell = |(id, cell): (String, Vec<Option<f64>>)| {
                    (id, cell.into_iter().map(number).collect())
                };
                (about, Some(values.into_iter().map(cell).collect()))
            }
            Err(error) => (format!("not run: what it wrote cannot be read, {error}"), None),
        }
    }
}

/// Runs a program that others may not have; what it did not do is seen from what it did not write.
fn run(command: &mut Command) {
    eprintln!("running {command:?}");
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("it ended with {status}"),
        Err(error) => eprintln!("it cannot be run: {error}"),
    }
}

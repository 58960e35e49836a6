//! How accurate each backend is, and other tools on the same rows: writes `docs/accuracy.md` and
//! `docs/accuracy.svg`.
//!
//!     cargo run --release --example accuracy -- [--python PYTHON] [--burn] [FOLDER]
//!
//! The rows and the other tools' answers go to FOLDER, `target/accuracy` unless named. PyTorch, JAX
//! and SciPy are asked through PYTHON, `python3` unless named; burn is built and asked with `--burn`.
//! `benches/peers/README.md` tells how to install them. A tool that does not answer is reported as
//! not run. The exit status is 1 if a result of this library is further off than is promised.

mod exact;
mod peers;
mod plot;
mod report;
mod rows;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use half::{bf16, f16};
use kullback::{Batch, Divergence, Element, Engine, Kind, Mass};

use peers::Handover;
use rows::Cell;

const KINDS: [[Kind; 2]; 4] = [
    [Kind::Probs, Kind::Probs],
    [Kind::LogProbs, Kind::LogProbs],
    [Kind::Logits, Kind::Logits],
    [Kind::Probs, Kind::Logits],
];

/// The cells of one pair of kinds in one type, and what is promised there.
struct Table {
    kinds: [Kind; 2],
    element: &'static str,
    /// The exact divergences of each decade that has rows.
    cells: BTreeMap<i32, Vec<f64>>,
}

impl Table {
    fn id(&self) -> String {
        format!("{}-{}", name(self.kinds, "-to-"), self.element)
    }

    /// The relative error that is promised of a row with such a divergence.
    fn promise(&self, exact: f64) -> Option<f64> {
        match (self.kinds == KINDS[0], self.element) {
            (true, "f64") => Some(1e-14),
            (true, _) if exact >= 1e-13 => Some(5e-7),
            (false, "f32" | "f16" | "bf16") if exact >= 1e-10 => Some(2e-6),
            _ => None,
        }
    }
}

/// The kinds of both sides, or the one that they have in common.
fn name([p, q]: [Kind; 2], between: &str) -> String {
    if p == q { p.to_string() } else { format!("{p}{between}{q}") }
}

/// The values of a tool, by cell.
type Values = BTreeMap<String, Vec<f64>>;

/// A column.
struct Tool {
    name: &'static str,
    /// What it is exactly: version, adapter.
    about: String,
    only_16_bit: bool,
    /// None if it was not run.
    values: Option<Values>,
}

fn cell_id(table: &str, decade: i32) -> String {
    format!("{table}-1e{decade}")
}

struct Arguments {
    python: String,
    burn: bool,
    folder: PathBuf,
}

impl Arguments {
    fn read() -> Result<Arguments, Box<dyn Error>> {
        let folder = Path::new("target").join("accuracy");
        let mut read = Arguments { python: "python3".into(), burn: false, folder };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--python" => read.python = arguments.next().ok_or("--python takes a program")?,
                "--burn" => read.burn = true,
                option if option.starts_with('-') => {
                    return Err(format!("what is {option}?").into());
                }
                folder => read.folder = folder.into(),
            }
        }
        Ok(read)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::read()?;
    eprintln!("{} golden rows agree with the exact arithmetic", exact::verify());
    let mut ours = backends();
    let mut handover = Handover::new(&arguments.folder)?;
    let mut tables = measured::<f32>(&mut ours, &mut handover)?;
    tables.extend(measured::<f16>(&mut ours, &mut handover)?);
    tables.extend(measured::<bf16>(&mut ours, &mut handover)?);
    tables.extend(measured::<f64>(&mut ours, &mut handover)?);
    let peers = handover.ask(&arguments.python, arguments.burn)?;

    let broken = broken_promises(&tables, ours.iter().map(|backend| &backend.tool));
    let tools: Vec<Tool> = ours.into_iter().map(|backend| backend.tool).chain(peers).collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("accuracy.md"), report::markdown(&tables, &tools, &broken))?;
    std::fs::write(docs.join("accuracy.svg"), plot::svg(&tables, &tools))?;
    eprintln!("wrote {0}/accuracy.md and {0}/accuracy.svg", docs.display());
    for line in &broken {
        eprintln!("{line}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A backend of this library, as a tool among others.
struct Backend {
    engine: Option<Engine>,
    tool: Tool,
}

fn backends() -> Vec<Backend> {
    let backend = |name, engine: Option<Engine>, about| {
        let values = engine.as_ref().map(|_| Values::new());
        Backend { engine, tool: Tool { name, about, only_16_bit: false, values } }
    };
    let version = concat!("kullback ", env!("CARGO_PKG_VERSION"));
    let cpu = backend("CPU", Some(Engine::cpu()), format!("{version}, {}", std::env::consts::ARCH));
    let gpu = match Engine::gpu() {
        Ok(gpu) => backend("GPU", Some(gpu.clone()), format!("{version}, {}", adapter(&gpu))),
        Err(error) => backend("GPU", None, format!("not run: {error}")),
    };
    vec![cpu, gpu]
}

#[cfg(feature = "gpu")]
fn adapter(gpu: &Engine) -> String {
    let name = |adapter: &kullback::Adapter| {
        format!("{}; {}; {}", adapter.name(), adapter.driver(), adapter.api())
    };
    gpu.adapter().map(name).unwrap_or_default()
}

#[cfg(not(feature = "gpu"))]
fn adapter(gpu: &Engine) -> String {
    gpu.to_string()
}

/// Draws the rows of a type, computes them on each backend, and hands them over to the others.
fn measured<T: Element>(
    ours: &mut [Backend],
    handover: &mut Handover,
) -> Result<Vec<Table>, Box<dyn Error>> {
    let mut tables = Vec::new();
    for (at, kinds) in KINDS.into_iter().enumerate() {
        let mut table = Table { kinds, element: T::NAME, cells: BTreeMap::new() };
        eprintln!("{} in {}: drawing rows, and their exact divergences", name(kinds, "‖"), T::NAME);
        for cell in rows::draw::<T>(kinds, at as u64) {
            let id = cell_id(&table.id(), cell.decade);
            for Backend { engine, tool } in ours.iter_mut() {
                if let (Some(engine), Some(known)) = (engine, &mut tool.values)
                    && let Some(values) = values::<T>(engine, kinds, &cell)?
                {
                    known.insert(id.clone(), values);
                }
            }
            handover.add::<T>(&id, kinds, &cell)?;
            table.cells.insert(cell.decade, cell.exact);
        }
        tables.push(table);
    }
    Ok(tables)
}

/// What a backend makes of the rows; nothing if it does not take their type.
fn values<T: Element>(
    engine: &Engine,
    kinds: [Kind; 2],
    cell: &Cell,
) -> Result<Option<Vec<f64>>, kullback::Error> {
    let [p, q] = [&cell.p, &cell.q].map(|side| side.mapv(T::from_f64));
    let batch = Batch::of(kinds[0], &p, kinds[1], &q)?.with_mass(Mass::Normalize);
    match engine.rows(Divergence::Kl, &batch) {
        Ok(outcome) => Ok(Some(outcome.values.iter().map(|value| value.to_f64()).collect())),
        Err(kullback::Error::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A line for each cell of which a row is further off than is promised.
fn broken_promises<'a>(tables: &[Table], ours: impl Iterator<Item = &'a Tool>) -> Vec<String> {
    let mut broken = Vec::new();
    for tool in ours {
        for (table, (&decade, exact)) in
            tables.iter().flat_map(|table| table.cells.iter().map(move |cell| (table, cell)))
        {
            let id = cell_id(&table.id(), decade);
            let Some(values) = tool.values.as_ref().and_then(|values| values.get(&id)) else {
                continue;
            };
            let too_far = exact.iter().zip(values).filter(|&(&exact, &value)| {
                let allowed = table.promise(exact).unwrap_or(f64::INFINITY);
                report::error(value, exact) > allowed
            });
            let count = too_far.count();
            if count > 0 {
                broken.push(format!(
                    "{}: {count} rows of {id} are further off than promised",
                    tool.name
                ));
            }
        }
    }
    broken
}

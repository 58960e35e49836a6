//! What `rows` and `matrix` have in common: two files, and an engine for what they hold.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use kullback::{Element, Engine, Error, Side};

use crate::args::{Backend, Fallback, Shared};
use crate::failure::Failure;
use crate::files::npy::Written;
use crate::files::rows::Rows;
use crate::files::source::Source;
use crate::files::{Dtype, regular, whole};

/// Both sides, as numbers of one type.
pub struct Input<T> {
    pub p: Rows<T>,
    pub q: Rows<T>,
    /// Whether the two are the same numbers of one file, by whatever names.
    pub is_one: bool,
    /// Of both.
    pub bytes: u64,
    /// Of the mass, unless another is given.
    pub tolerance: Option<f64>,
}

/// What is done with them, of whatever type they are.
pub trait Compute {
    fn compute<T: Element<Value: Written>>(&self, input: Input<T>) -> Result<(), Failure>;
}

/// Opens both files and has their rows computed, if no output is one of them.
pub fn compute(options: &Shared, outputs: &[PathBuf], job: &impl Compute) -> Result<(), Failure> {
    if options.fallback.is_some() && options.backend != Backend::Gpu {
        return Err(Failure::input("--fallback needs --backend gpu: auto has one of its own"));
    }
    let p = Source::open(&options.p).map_err(Failure::input)?;
    let q = Source::open(&options.q).map_err(Failure::input)?;
    refuse_input_as_output(outputs, [&p, &q])?;
    refuse_one_output_twice(outputs)?;
    let dtypes = [p.dtype(), q.dtype()];
    let is_one_file = regular::same_file(p.path(), q.path()).unwrap_or(false);
    let [p, q] = [p, q].map(Source::into_matrix);
    let is_one = is_one_file && p.layout() == q.layout();
    let bytes = [&p, &q].map(|matrix| matrix.layout().bytes() as u64).iter().sum();
    match dtypes {
        [Dtype::F16, Dtype::F16] => {
            job.compute::<f16>(Input { p: p.rows(), q: q.rows(), is_one, bytes, tolerance: None })
        }
        [Dtype::BF16, Dtype::BF16] => {
            job.compute::<bf16>(Input { p: p.rows(), q: q.rows(), is_one, bytes, tolerance: None })
        }
        // Of two types the arithmetic is that of the wider, and the tolerance that of the narrower.
        dtypes => {
            let narrow = dtypes.iter().any(|dtype| [Dtype::F16, Dtype::BF16].contains(dtype));
            let tolerance = narrow.then_some(f16::MASS_TOLERANCE);
            if dtypes.contains(&Dtype::F64) {
                job.compute::<f64>(Input {
                    p: p.widened(),
                    q: q.widened(),
                    is_one,
                    bytes,
                    tolerance,
                })
            } else {
                job.compute::<f32>(Input {
                    p: p.widened(),
                    q: q.widened(),
                    is_one,
                    bytes,
                    tolerance,
                })
            }
        }
    }
}

fn refuse_input_as_output(outputs: &[PathBuf], inputs: [&Source; 2]) -> Result<(), Failure> {
    for (input, output) in outputs.iter().flat_map(|output| inputs.map(|input| (input, output))) {
        let same = regular::same_file(input.path(), output);
        let output = output.display();
        if same.map_err(|error| Failure::other(format!("{output}: cannot write: {error}")))? {
            return Err(Failure::input(format!("{output}: the output would replace an input")));
        }
    }
    Ok(())
}

/// Links may make one file of two outputs, of which the second would replace the first.
fn refuse_one_output_twice(outputs: &[PathBuf]) -> Result<(), Failure> {
    let places = outputs.iter().map(|output| whole::place(output)).collect::<Result<Vec<_>, _>>();
    let places = places.map_err(Failure::other)?;
    for (at, place) in places.iter().enumerate() {
        if let Some(other) = places[..at].iter().position(|other| other == place) {
            let [one, other] = [&outputs[other], &outputs[at]].map(|path| path.display());
            return Err(Failure::input(format!("{other}: the same file as {one}")));
        }
    }
    Ok(())
}

/// The engine that is asked for.
pub fn engine(options: &Shared) -> Result<Engine, Failure> {
    match (options.backend, options.fallback) {
        (Backend::Auto, _) => Ok(Engine::auto()),
        (Backend::Cpu, _) => Ok(Engine::cpu()),
        (Backend::Gpu, None) => Engine::gpu().map_err(|error| explain(options, error)),
        (Backend::Gpu, Some(Fallback::Cpu)) => Ok(Engine::gpu_or_cpu()),
    }
}

/// Puts the names of the files to an error.
pub fn explain(options: &Shared, error: Error) -> Failure {
    let file = |path: &Path| path.display().to_string();
    match error {
        Error::Invalid(at) => {
            let path = if at.side == Side::P { &options.p } else { &options.q };
            Failure::input(format!("{}: {}", file(path), at.without_side()))
        }
        Error::Shape { .. } | Error::Bins { .. } | Error::NoBins => {
            Failure::input(format!("{} and {}: {error}", file(&options.p), file(&options.q)))
        }
        Error::Setting { .. } | Error::Policy { .. } => Failure::input(error),
        Error::Unsupported { .. } => Failure::input(format!("{error} (--backend cpu)")),
        _ => Failure::other(error),
    }
}

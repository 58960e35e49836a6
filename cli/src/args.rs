//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kullback::{Divergence, Kind, Mass, Side, Wanted};

use crate::memory;

/// How far probability distributions lie apart, for millions of rows at once, on a GPU or the CPU.
///
/// A row is a pair of distributions: row i of P and row i of Q. If one of the files has a single
/// row, it is compared with every row of the other.
#[derive(Debug, Parser)]
#[command(name = "kullback", version, arg_required_else_help = true, after_long_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kullback rows p.npy q.npy                     a summary of D(p‖q) over all rows
  kullback rows p.npy q.npy -o kl.npy           one value per row, into a file
  kullback rows counts.npy model.npy --mass normalize --base 2
  kullback rows p.npy q.npy --divergence js --base 2            never infinite, at most 1 bit
  kullback rows p.npy q.npy --backend gpu --cross-check 1000 --json
  kullback rows p.npy q.npy --backend gpu --fallback cpu        a GPU that may fail
  kullback rows p.npy q.npy --memory-limit 512MiB -o kl.npy     files of any size
  kullback rows run.safetensors:teacher run.safetensors:student --input logits --temperature 2
  kullback rows teacher.npy student.npy --input logits --gradient q -o kl.npy
                                                and the derivatives, into kl.q-gradient.npy
  kullback matrix p.npy q.npy --divergence js-distance -o d.npy  all rows against all rows
  kullback matrix p.npy q.npy --top-k 5         the 5 rows of q nearest to each row of p
  kullback devices                              which GPUs there are, and whether they compute right

Exit status: 0 done; 2 bad usage or bad input; 128 and the number of the signal that ended it, so
130 after Ctrl-C; 1 anything else.
With KULLBACK_LOG=debug in the environment, the choice of the backend is logged.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One divergence per row: D(P_i‖Q_i), Kullback-Leibler in nats unless told otherwise
    #[command(after_long_help = ROWS_NOTES)]
    Rows(Rows),
    /// All rows of P against all rows of Q: D(P_i‖Q_j), m × n values, or the nearest rows only
    #[command(after_long_help = MATRIX_NOTES)]
    Matrix(Matrix),
    /// The adapters of this machine, what they say in a self-test, and what `auto` would take
    Devices(Devices),
}

const ROWS_NOTES: &str = "\
What counts as what:
  p = 0             contributes nothing
  p > 0 where q = 0 makes the row exactly +inf: a right answer, counted as an infinite row
  P = Q bit for bit is exactly 0
  NaN, negative and infinite probabilities are invalid, and so is a mass that the policy refuses
  Among logarithms and logits -inf is a probability of 0; NaN and +inf are invalid, and so is a
  row of masked logits. Logits are divided by --temperature, and their mass is 1 by definition

float16 and bfloat16 files are computed in f32, with a mass tolerance of 1e-2 instead of 1e-3; a
float64 file makes it f64.

A gradient has the derivatives of each row's value in the numbers that the file holds, in the unit of
the value: for logits, through their softmax. Rows that are infinite or invalid have NaN; a masked
number has 0; a probability of 0 the one-sided derivative, which may be infinite. If the side has a
single row, so has its gradient: the sum over all rows.

The summary's statistics are over the finite rows; infinite and invalid rows are counted apart.
Quantiles between two rows are interpolated. Seconds are those of reading the files, computing and
writing the results.

More results than --memory-limit leaves room for are kept in a temporary file until their statistics
are taken; TMPDIR says where.";

const MATRIX_NOTES: &str = "\
Each value is what `rows` makes of that pair of rows; its help tells what counts as what. An invalid
row is an error, or NaN in its row or column of the matrix with --invalid nan. So is a pair of rows with a
finite value beyond the result type, which is NaN itself then, and counted as an overflow.

The values are written in bands of rows, so that the matrix need not fit in memory; P and Q have to.
--memory-limit is for these and a band; some 128 MiB more are taken while they are computed. A matrix of
one file against itself is read once, and the nearest pair is of different rows.

--backend gpu sums pairs in f32. Float64 input, other mass policies than check and normalize, and
divergences that have no such form are left to the CPU, as the summary then says; auto takes the CPU.

With --top-k, of rows equally near the first counts; rows at +inf come after all others, and NaN
last. numpy.load('OUT.npy')['index'] are the rows of Q, ['value'] the divergences.";

/// Options of `rows`.
#[derive(Debug, Args)]
pub struct Rows {
    /// Q has as many rows as P, or one of them has one.
    #[command(flatten)]
    pub shared: Shared,

    /// Recompute N rows, spread over the file, in plain f64; a disagreement is an error
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub cross_check: usize,

    /// Write the gradient too, in the numbers of P, of Q or of both, with the derivatives of one row in
    /// each row; beside OUT.npy, as OUT.p-gradient.npy and OUT.q-gradient.npy
    #[arg(long, value_name = "SIDE", requires = "output", value_parser = named::<Wanted>(&names(Wanted::ALL, Wanted::name)))]
    pub gradient: Option<Wanted>,
}

impl Rows {
    /// All files that are written, in the end.
    pub fn outputs(&self) -> Vec<PathBuf> {
        let gradients = [Side::P, Side::Q].map(|side| self.gradient_output(side));
        self.shared.output.iter().cloned().chain(gradients.into_iter().flatten()).collect()
    }

    /// Where the gradient in a side goes, if it is wanted: beside the output.
    pub fn gradient_output(&self, side: Side) -> Option<PathBuf> {
        let wanted = self.gradient.is_some_and(|wanted| wanted.includes(side));
        let output = self.shared.output.as_ref().filter(|_| wanted)?;
        let ending = if side == Side::P { "p-gradient.npy" } else { "q-gradient.npy" };
        let stem = match output.extension() {
            Some(extension) if extension == "npy" => output.with_extension(""),
            _ => output.clone(),
        };
        let mut name = stem.into_os_string();
        name.push(".");
        name.push(ending);
        Some(name.into())
    }
}

/// Options of `matrix`.
#[derive(Debug, Args)]
pub struct Matrix {
    /// P and Q have as many rows as they like.
    #[command(flatten)]
    pub shared: Shared,

    /// Of each row of P the K nearest rows of Q only: without -o a table of them, with -o an array of
    /// m × K records of 'index' (int64) and 'value'
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
}

/// The options that `rows` and `matrix` share.
#[derive(Debug, Args)]
pub struct Shared {
    /// P, rows × bins: FILE.npy (float16, 32 or 64), or FILE.safetensors:TENSOR (F16, BF16, F32,
    /// F64); one dimension counts as one row
    pub p: PathBuf,

    /// Q: likewise, with the same bins
    pub q: PathBuf,

    /// Write the results to this .npy file: whole or not at all, never over an input
    #[arg(short, long, value_name = "OUT.npy")]
    pub output: Option<PathBuf>,

    /// Which divergence: kl, reverse-kl, jeffreys, js (js:W with W the weight of P), js-distance,
    /// renyi:A, tsallis:A, alpha:A (A the order), hellinger, tv, chi2, bhattacharyya,
    /// cross-entropy, entropy
    #[arg(long, value_name = "NAME", default_value_t = Divergence::Kl)]
    pub divergence: Divergence,

    /// What both files hold: probabilities, their natural logarithms, or the input of a softmax
    #[arg(long, value_name = "KIND", default_value = Kind::Probs.name(), value_parser = named::<Kind>(&names(Kind::ALL, Kind::name)))]
    pub input: Kind,

    /// What P holds, where that differs from --input
    #[arg(long, value_name = "KIND", value_parser = named::<Kind>(&names(Kind::ALL, Kind::name)))]
    pub p_input: Option<Kind>,

    /// What Q holds, where that differs from --input
    #[arg(long, value_name = "KIND", value_parser = named::<Kind>(&names(Kind::ALL, Kind::name)))]
    pub q_input: Option<Kind>,

    /// What logits are divided by before the softmax
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,

    /// What to make of rows that do not sum to 1: check = refuse them; normalize = divide each
    /// row by its sum; as-given = Σ p·ln(p/q) literally; generalized = Σ p·ln(p/q) − p + q
    #[arg(long, default_value = Mass::Check.name(), value_parser = named::<Mass>(&names(Mass::ALL, Mass::name)))]
    pub mass: Mass,

    /// How far a sum may lie from 1 under --mass check [default: 1e-3, or
    /// 1e-2 if a file is of 16 bits]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mass_tolerance: Option<f64>,

    /// The unit of the results, of divergences that have one: e = nats, 2 = bits, 10 = bans
    #[arg(long, value_enum, default_value_t = Base::E)]
    pub base: Base,

    /// What to do about a row that is no distribution: stop with an error, or give NaN there
    #[arg(long, value_enum, default_value_t = Invalid::Error)]
    pub invalid: Invalid,

    /// Where to compute; auto never takes a software adapter, gpu takes what there is
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// Who computes the rows that --backend gpu cannot finish; without it they are an error
    #[arg(long, value_enum)]
    pub fallback: Option<Fallback>,

    /// Memory for the rows and their results, as in 512MiB, 1.5GiB or 2GB; files of any size go
    /// through it part by part [default: half of what is available]
    #[arg(long, value_name = "SIZE", value_parser = memory::parse)]
    pub memory_limit: Option<usize>,

    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Print no summary and no progress
    #[arg(long, short)]
    pub quiet: bool,
}

impl Shared {
    /// What P holds.
    pub fn p_kind(&self) -> Kind {
        self.p_input.unwrap_or(self.input)
    }

    /// What Q holds.
    pub fn q_kind(&self) -> Kind {
        self.q_input.unwrap_or(self.input)
    }
}

/// Options of `devices`.
#[derive(Debug, Args)]
pub struct Devices {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The base of the logarithm.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Base {
    /// Nats
    E,
    /// Bits
    #[value(name = "2")]
    Two,
    /// Bans
    #[value(name = "10")]
    Ten,
}

impl Base {
    /// Nats in one unit.
    pub fn nats(self) -> f64 {
        match self {
            Base::E => 1.0,
            Base::Two => std::f64::consts::LN_2,
            Base::Ten => std::f64::consts::LN_10,
        }
    }

    /// What the unit is called.
    pub fn unit(self) -> &'static str {
        match self {
            Base::E => "nats",
            Base::Two => "bits",
            Base::Ten => "bans",
        }
    }
}

/// What to do about invalid rows.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Invalid {
    /// Stop with an error that names the first
    Error,
    /// Give NaN there, and every other row its value
    Nan,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Backend {
    /// Whichever finishes first for the files at hand
    Auto,
    /// A GPU, or an error if there is none
    Gpu,
    /// The CPU
    Cpu,
}

/// Who takes the place of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Fallback {
    /// The CPU
    Cpu,
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|&one| name(one)).collect()
}

/// Parses one of the names that the library knows.
fn named<T>(names: &[&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = kullback::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names.to_vec()).try_map(|name| name.parse::<T>())
}

//! `kullback matrix`.

use std::fmt::{self, Display};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kullback::{Element, Engine, Error, Nearest, OnInvalid, Pairs, Status};
use ndarray::{Array1, Array2, ArrayView2};
use serde::Serialize;

use crate::args::{self, Invalid, Shared};
use crate::failure::Failure;
use crate::files::npy::{Writer, Written};
use crate::files::rows::Rows;
use crate::files::whole::Unfinished;
use crate::input::{self, Compute, Input};
use crate::summary::{duration, grouped, line, shown};
use crate::{memory, results};

/// Rows of a table for people.
const TABLE_ROWS: usize = 20;

/// Runs the command.
pub fn run(options: &args::Matrix, unfinished: &Unfinished) -> Result<(), Failure> {
    let job = Job { options: &options.shared, top_k: options.top_k, unfinished };
    input::compute(job.options, job.options.output.as_slice(), &job)
}

struct Job<'a> {
    options: &'a Shared,
    top_k: Option<usize>,
    unfinished: &'a Unfinished,
}

impl Compute for Job<'_> {
    fn compute<T: Element<Value: Written>>(&self, input: Input<T>) -> Result<(), Failure> {
        let Input { p, q, tolerance, is_one, .. } = input;
        // Read alike.
        let is_one = is_one && self.options.p_kind() == self.options.q_kind();
        let start = Instant::now();
        let memory = self.memory_for_bands::<T>(p.shape(), q.shape(), is_one)?;
        let p = read(p)?;
        let q = if is_one { None } else { Some(read(q)?) };
        let q = q.as_ref().unwrap_or(&p);
        let pairs =
            self.pairs(p.view(), q.view(), tolerance).map_err(|error| self.explain(error))?;
        let pairs = pairs.with_memory(memory);
        let engine = input::engine(self.options)?;
        let per_unit = results::per_unit(self.options)?;
        match self.top_k {
            Some(k) => self.nearest(&engine, &pairs, k, per_unit),
            None => self.matrix(&engine, &pairs, per_unit, is_one, start),
        }
    }
}

impl Job<'_> {
    /// What the limit leaves for bands of the matrix.
    fn memory_for_bands<T: Element>(
        &self,
        p: (usize, usize),
        q: (usize, usize),
        is_one: bool,
    ) -> Result<usize, Failure> {
        let bytes =
            |(rows, bins): (usize, usize)| rows.saturating_mul(bins.saturating_mul(size_of::<T>()));
        let found = self.top_k.map_or(0, |k| {
            let each = size_of::<usize>() + size_of::<T::Value>();
            p.0.saturating_mul(k.min(q.0)).saturating_mul(each)
        });
        let sides = bytes(p).saturating_add(if is_one { 0 } else { bytes(q) });
        let sides = sides.saturating_add(found);
        let needed = sides.saturating_add(q.0.saturating_mul(size_of::<T::Value>()));
        let limit = self.options.memory_limit.unwrap_or_else(memory::default_limit);
        limit.checked_sub(needed).map(|_| limit - sides).ok_or_else(|| {
            Failure::input(format!(
                "{} and {}: a matrix takes all of their rows in memory{}; --memory-limit {needed} \
                 ({}) is the least that holds them",
                self.options.p.display(),
                self.options.q.display(),
                if found > 0 { ", and --top-k what it finds" } else { "" },
                memory::shown(needed)
            ))
        })
    }

    fn pairs<'a, T: Element>(
        &self,
        p: ArrayView2<'a, T>,
        q: ArrayView2<'a, T>,
        tolerance: Option<f64>,
    ) -> Result<Pairs<'a, T>, Error> {
        let options = self.options;
        let pairs = Pairs::of(options.p_kind(), p, options.q_kind(), q)?
            .with_temperature(options.temperature)?
            .with_mass(options.mass)
            .with_on_invalid(match options.invalid {
                Invalid::Error => OnInvalid::Error,
                Invalid::Nan => OnInvalid::Nan,
            });
        match options.mass_tolerance.or(tolerance) {
            Some(tolerance) => pairs.with_mass_tolerance(tolerance),
            None => Ok(pairs),
        }
    }

    fn explain(&self, error: Error) -> Failure {
        input::explain(self.options, error)
    }

    /// The whole matrix: into the file as its bands come, and into the summary.
    fn matrix<T: Element<Value: Written>>(
        &self,
        engine: &Engine,
        pairs: &Pairs<'_, T>,
        per_unit: f64,
        is_one: bool,
        start: Instant,
    ) -> Result<(), Failure> {
        let options = self.options;
        let (m, n) = pairs.shape();
        let create = |path| Writer::<T::Value>::create(path, &[m, n], self.unfinished);
        let mut file = options.output.as_deref().map(create).transpose().map_err(Failure::other)?;
        let mut summary = Summary::new::<T>(options, pairs);
        let progress = self.progress(m);
        let bands = engine.matrix_into(options.divergence, pairs, |rows, mut band| {
            scale(&mut band.values, per_unit);
            if let Some(file) = &mut file {
                let values = band.values.as_slice().unwrap_or_default();
                file.write(values).map_err(|error| Stop::Failure(Failure::other(error)))?;
            }
            summary.take(rows.start, &band, is_one);
            progress.set_position(rows.end as u64);
            Ok(())
        });
        bands.map_err(|stop| match stop {
            Stop::Library(error) => self.explain(error),
            Stop::Failure(failure) => failure,
        })?;
        progress.finish_and_clear();
        file.map(Writer::finish).transpose().map_err(Failure::other)?;
        summary.seconds = start.elapsed().as_secs_f64();
        self.say(&summary)
    }

    /// The nearest rows: into the file, or on stdout.
    fn nearest<T: Element<Value: Written>>(
        &self,
        engine: &Engine,
        pairs: &Pairs<'_, T>,
        k: usize,
        per_unit: f64,
    ) -> Result<(), Failure> {
        let options = self.options;
        let shape = [pairs.shape().0, k.min(pairs.shape().1)];
        let create = |path| Writer::<T::Value>::create_records(path, &shape, self.unfinished);
        let file = options.output.as_deref().map(create).transpose().map_err(Failure::other)?;
        let nearest = engine.nearest(options.divergence, pairs, k);
        let mut nearest = nearest.map_err(|error| self.explain(error))?;
        scale(&mut nearest.values, per_unit);
        let shown = match (&file, options.json) {
            (Some(_), _) => 0,
            (None, true) => shape[0],
            (None, false) => shape[0].min(TABLE_ROWS),
        };
        if let Some(mut file) = file {
            let (indices, values) = (nearest.indices.as_slice(), nearest.values.as_slice());
            let write = || {
                file.write_records(indices.unwrap_or_default(), values.unwrap_or_default())?;
                file.finish()
            };
            write().map_err(Failure::other)?;
        }
        self.say(&Table::new(options, &nearest, shown))
    }

    fn say(&self, what: &(impl Serialize + Display)) -> Result<(), Failure> {
        match (self.options.quiet, self.options.json) {
            (true, _) => Ok(()),
            (_, true) => crate::print_json(what),
            _ => crate::print(&what.to_string()),
        }
    }

    fn progress(&self, rows: usize) -> ProgressBar {
        if self.options.quiet {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} rows, {eta} left");
        ProgressBar::with_draw_target(Some(rows as u64), ProgressDrawTarget::stderr())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

/// What ends the bands early.
enum Stop {
    Library(Error),
    Failure(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Library(error)
    }
}

/// All rows of a side.
fn read<T: Element>(mut rows: Rows<T>) -> Result<Array2<T>, Failure> {
    let (count, bins) = rows.shape();
    // A layout's size in bytes is one that memory could hold.
    let mut values = Vec::new();
    let no_memory =
        || Failure::other(format!("there is no memory for {count} rows of {bins} bins"));
    values.try_reserve_exact(count * bins).map_err(|_| no_memory())?;
    values.resize(count * bins, T::default());
    rows.read(0..count, &mut values).map_err(Failure::input)?;
    Array2::from_shape_vec((count, bins), values).map_err(|_| no_memory())
}

fn scale<V: Element>(values: &mut Array2<V>, by: f64) {
    if by != 1.0 {
        values.mapv_inplace(|value| V::from_f64(value.to_f64() * by));
    }
}

/// Everything that is said about a matrix.
#[derive(Debug, Serialize)]
struct Summary {
    rows: usize,
    columns: usize,
    bins: usize,
    dtype: &'static str,
    divergence: String,
    unit: Option<&'static str>,
    mass: &'static str,
    backend: &'static str,
    /// Of the finite values; of none there is none.
    mean: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    /// The row of P and the row of Q that are nearest to each other, and how near they are.
    nearest_pair: Option<(usize, usize)>,
    nearest: Option<f64>,
    infinite_pairs: usize,
    invalid_p_rows: usize,
    invalid_q_rows: usize,
    /// Of valid rows, with a finite value beyond the result type.
    overflowing_pairs: usize,
    closer_looks: usize,
    fallback_rows: usize,
    fallback_reason: Option<String>,
    seconds: f64,
    /// As far as it is Unicode.
    output: Option<String>,
    /// Of the finite values, each divided by the number of all pairs, so as to stay in the range.
    #[serde(skip)]
    sum: f64,
    #[serde(skip)]
    finite: usize,
}

impl Summary {
    fn new<T: Element>(options: &Shared, pairs: &Pairs<'_, T>) -> Summary {
        let (rows, columns) = pairs.shape();
        Summary {
            rows,
            columns,
            bins: pairs.bins(),
            dtype: T::NAME,
            divergence: options.divergence.to_string(),
            unit: options.divergence.per_unit(1.0).map(|_| options.base.unit()),
            mass: options.mass.name(),
            backend: "cpu",
            mean: None,
            min: None,
            max: None,
            nearest_pair: None,
            nearest: None,
            infinite_pairs: 0,
            invalid_p_rows: 0,
            invalid_q_rows: 0,
            overflowing_pairs: 0,
            closer_looks: 0,
            fallback_rows: 0,
            fallback_reason: None,
            seconds: 0.0,
            output: options.output.as_ref().map(|path| path.display().to_string()),
            sum: 0.0,
            finite: 0,
        }
    }

    /// Takes a band whose first row this is. A row is not its own neighbour, where it has to be told.
    fn take<V: Element>(&mut self, first: usize, band: &kullback::Matrix<V>, skip: bool) {
        let pairs = self.rows as f64 * self.columns as f64;
        for ((row, column), value) in band.values.indexed_iter() {
            let value = value.to_f64();
            let statuses = [band.p_statuses[row], band.q_statuses[column]];
            self.infinite_pairs += usize::from(value == f64::INFINITY);
            self.overflowing_pairs += usize::from(overflows(value, statuses));
            if !value.is_finite() {
                continue;
            }
            self.finite += 1;
            self.sum += value / pairs;
            self.min = Some(self.min.map_or(value, |min| min.min(value)));
            self.max = Some(self.max.map_or(value, |max| max.max(value)));
            if !(skip && first + row == column) && self.nearest.is_none_or(|least| value < least) {
                (self.nearest, self.nearest_pair) = (Some(value), Some((first + row, column)));
            }
        }
        self.mean = (self.finite > 0).then(|| self.sum * (pairs / self.finite as f64));
        self.invalid_p_rows += invalid(&band.p_statuses);
        self.invalid_q_rows = invalid(&band.q_statuses);
        self.closer_looks += band.closer_looks;
        self.backend = band.backend;
        self.fallback_rows += band.recovery.cpu_rows;
        self.fallback_reason = self.fallback_reason.take().or(band.recovery.reason.clone());
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, columns, bins] = [self.rows, self.columns, self.bins].map(grouped);
        line(f, "matrix", &format_args!("{rows} × {columns} of {bins} bins, {}", self.dtype))?;
        let unit = self.unit.map_or(String::new(), |unit| format!(" in {unit}"));
        let divergence = format_args!("{}{unit}, mass policy {}", self.divergence, self.mass);
        line(f, "divergence", &divergence)?;
        line(f, "backend", &self.backend)?;
        for (name, value) in [("mean", self.mean), ("min", self.min), ("max", self.max)] {
            line(f, name, &shown(value))?;
        }
        match self.nearest_pair {
            Some((row, column)) => {
                let near = shown(self.nearest);
                line(f, "nearest", &format_args!("P row {row}, Q row {column}: {near}"))?;
            }
            None => line(f, "nearest", &"none")?,
        }
        line(f, "infinite", &format_args!("{} pairs", grouped(self.infinite_pairs)))?;
        let [p, q] = [self.invalid_p_rows, self.invalid_q_rows].map(grouped);
        line(f, "invalid", &format_args!("{p} rows of P, {q} of Q"))?;
        overflow(f, self.overflowing_pairs)?;
        line(f, "time", &duration(self.seconds))?;
        fallback(f, self.fallback_rows, self.fallback_reason.as_deref())
    }
}

/// The nearest rows, as far as they are printed, and how they were found.
#[derive(Debug, Serialize)]
struct Table {
    rows: usize,
    nearest_of_each: usize,
    indices: Vec<Vec<usize>>,
    /// Null where they are not finite.
    values: Vec<Vec<f64>>,
    backend: &'static str,
    adapter: Option<String>,
    invalid_p_rows: usize,
    invalid_q_rows: usize,
    /// Among the nearest of all rows.
    overflowing_pairs: usize,
    fallback_rows: usize,
    fallback_reason: Option<String>,
    /// As far as it is Unicode.
    output: Option<String>,
}

impl Table {
    fn new<V: Element>(options: &Shared, nearest: &Nearest<V>, shown: usize) -> Table {
        let (rows, nearest_of_each) = nearest.indices.dim();
        let indices = nearest.indices.rows().into_iter().take(shown);
        let values = nearest.values.rows().into_iter().take(shown);
        let overflowing = nearest.values.indexed_iter().filter(|&((row, at), value)| {
            let column = nearest.indices[[row, at]];
            overflows(value.to_f64(), [nearest.p_statuses[row], nearest.q_statuses[column]])
        });
        Table {
            rows,
            nearest_of_each,
            indices: indices.map(|row| row.to_vec()).collect(),
            values: values.map(|row| row.iter().map(|value| value.to_f64()).collect()).collect(),
            backend: nearest.backend,
            adapter: nearest.adapter.clone(),
            invalid_p_rows: invalid(&nearest.p_statuses),
            invalid_q_rows: invalid(&nearest.q_statuses),
            overflowing_pairs: overflowing.count(),
            fallback_rows: nearest.recovery.cpu_rows,
            fallback_reason: nearest.recovery.reason.clone(),
            output: options.output.as_ref().map(|path| path.display().to_string()),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, (indices, values)) in self.indices.iter().zip(&self.values).enumerate() {
            let near = indices.iter().zip(values);
            let near = near.map(|(index, value)| format!("{index} ({})", shown(Some(*value))));
            line(f, &row.to_string(), &near.collect::<Vec<_>>().join(", "))?;
        }
        let more = grouped(self.rows - self.indices.len());
        if self.output.is_some() {
            let nearest = grouped(self.nearest_of_each);
            line(f, "nearest", &format_args!("{nearest} for each of {more} rows"))?;
            line(f, "backend", &self.backend)?;
        } else if self.rows > self.indices.len() {
            writeln!(f, "… and {more} more rows: -o FILE.npy or --json has them all")?;
        }
        if self.invalid_p_rows + self.invalid_q_rows > 0 {
            let [p, q] = [self.invalid_p_rows, self.invalid_q_rows].map(grouped);
            line(f, "invalid", &format_args!("{p} rows of P, {q} of Q"))?;
        }
        overflow(f, self.overflowing_pairs)?;
        fallback(f, self.fallback_rows, self.fallback_reason.as_deref())
    }
}

fn invalid(statuses: &Array1<Status>) -> usize {
    statuses.iter().filter(|status| **status != Status::Ok).count()
}

/// Whether a pair of rows of these statuses has a finite value that the result type does not hold.
fn overflows(value: f64, statuses: [Status; 2]) -> bool {
    value.is_nan() && statuses == [Status::Ok; 2]
}

fn overflow(f: &mut fmt::Formatter<'_>, pairs: usize) -> fmt::Result {
    if pairs == 0 {
        return Ok(());
    }
    line(f, "overflow", &format_args!("{} pairs, beyond the result type", grouped(pairs)))
}

/// What the CPU took over from a GPU, and why, if it did.
fn fallback(f: &mut fmt::Formatter<'_>, rows: usize, reason: Option<&str>) -> fmt::Result {
    let Some(reason) = reason else { return Ok(()) };
    line(f, "fallback", &format_args!("{} rows of P by the CPU", grouped(rows)))?;
    line(f, "because", &crate::files::printable(reason))
}

//! Distributions of which only the largest entries are known, as servers of language models return them:
//! these entries, and one more bin for the rest of the mass.
//!
//! Two distributions are compared on the bins that are known of both; whatever else they have goes into
//! one bin, the tail. What is computed from that is a lower bound of the divergence of the whole
//! distributions, for every f-divergence (data processing inequality: Csiszár, "Information-type measures
//! of difference of probability distributions", Studia Sci. Math. Hungar. 2, 1967), and equal to it if the
//! two agree on how the tail is spread.
//!
//! The tail of a list is what its entries leave of 1, unless that is no more than their rounding, and than 0.01.
//!
//! ```
//! use kullback::top_k::TopK;
//! use kullback::{Divergence, Engine, Kind};
//! use ndarray::array;
//!
//! // The two likeliest tokens of a vocabulary of five, and the logits of another model.
//! let (indices, logprobs) = (array![[3_u32, 0]], array![[0.5_f64.ln(), 0.25_f64.ln()]]);
//! let logits = array![[1.0_f64, 0.0, 0.0, 2.0, 0.0]];
//! let top = TopK::new(Kind::LogProbs, &indices, &logprobs)?;
//! let tailed = top.beside(Kind::Logits, &logits, 1.0)?;
//! // By their bins: of tokens 0 and 3, and of all others.
//! assert_eq!(tailed.p, array![[0.25, 0.5, 0.25]]);
//! let outcome = Engine::cpu().rows(Divergence::Kl, &tailed.batch()?)?;
//! assert!((outcome.values[0] - 0.0087984).abs() < 1e-7);
//! # Ok::<(), kullback::Error>(())
//! ```

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use crate::batch::{broken_rule, check_temperature};
use crate::element::Element;
use crate::error::{InvalidRow, Rule, Side};
use crate::{Batch, Error, Kind, threads};

/// How much the entries of a row may exceed 1, and fall short of it without a tail, for rounding.
const EXCESS: f64 = 1e-2;

/// The largest entries of some distributions: the bins that they are of, and their probabilities or the
/// logarithms of these. An entry without mass (0, or −inf) stands for none, whatever its index.
#[derive(Clone, Copy, Debug)]
pub struct TopK<'a, T> {
    kind: Kind,
    indices: ArrayView2<'a, u32>,
    values: ArrayView2<'a, T>,
}

/// Two sides on the bins that are known of both, the tails in the last one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tailed {
    /// Probabilities of P: rows × (bins known of both + 1). Rows with fewer such bins have zeros on both
    /// sides before the tail.
    pub p: Array2<f64>,
    /// Probabilities of Q, likewise.
    pub q: Array2<f64>,
}

impl Tailed {
    /// Them as a batch, whose masses may be as far from 1 as the entries were let.
    ///
    /// # Errors
    /// As [`Batch::probs`].
    pub fn batch(&self) -> Result<Batch<'_, f64>, Error> {
        // The same sums, with other roundings.
        Batch::probs(&self.p, &self.q)?.with_mass_tolerance(EXCESS + 1e-9)
    }
}

/// An entry of a row: its bin and its probability.
type Entry = (u32, f64);

impl<'a, T: Element> TopK<'a, T> {
    /// Entries of some rows: `indices` and `values` are both rows × entries, in any order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the two are not of the same shape; [`Error::Unsupported`] for logits, of which
    /// the largest do not tell how much mass the rest has.
    pub fn new(
        kind: Kind,
        indices: impl Into<ArrayView2<'a, u32>>,
        values: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        let (indices, values) = (indices.into(), values.into());
        if indices.dim() != values.dim() {
            return Err(Error::Shape { p: indices.dim(), q: values.dim() });
        }
        if kind == Kind::Logits {
            let what = "the largest logits of a row, since they do not tell the mass of the rest; \
                        log-probabilities do";
            return Err(Error::Unsupported { backend: "top-k", what: what.to_owned() });
        }
        Ok(TopK { kind, indices, values })
    }

    /// These as P, and whole distributions as Q: rows × bins of a kind, with a temperature for logits.
    /// Q is divided by its mass.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows differ; [`Error::Setting`] for a temperature that
    /// [`Batch::with_temperature`] refuses; [`Error::Invalid`] for a number that is none of its kind, an
    /// index beyond the bins, a bin that comes twice, entries that sum to more than 1.01, or a row of Q
    /// without mass.
    pub fn beside<'b>(
        &self,
        q_kind: Kind,
        q: impl Into<ArrayView2<'b, T>>,
        temperature: f64,
    ) -> Result<Tailed, Error> {
        let q = q.into();
        check_temperature([q_kind; 2], temperature)?;
        let (rows, entries) = self.values.dim();
        if q.nrows() != rows {
            return Err(Error::Shape { p: (rows, entries), q: q.dim() });
        }
        self.tailed(entries, |row, p_row, q_row| {
            let top = self.entries(Side::P, row, q.ncols())?;
            let whole = Whole::of(q_kind, q.index_axis(Axis(0), row), temperature, row)?;
            let mut behind = 0;
            for (at, &(bin, p)) in top.iter().enumerate() {
                (p_row[at], q_row[at]) = (p, whole.probability(bin as usize));
                // Summed and not subtracted, so that a small tail has its digits.
                q_row[entries] += whole.mass_of(behind..bin as usize);
                behind = bin as usize + 1;
            }
            q_row[entries] += whole.mass_of(behind..q.ncols());
            p_row[entries] = rest::<T>(&top);
            Ok(())
        })
    }

    /// These as P, and entries of other distributions over the same bins as Q. What only one of the two
    /// lists has belongs to its tail.
    ///
    /// # Errors
    /// As [`beside`](Self::beside).
    pub fn beside_top(&self, q: &TopK<'_, T>) -> Result<Tailed, Error> {
        let ((rows, entries), others) = (self.values.dim(), q.values.dim());
        if others.0 != rows {
            return Err(Error::Shape { p: (rows, entries), q: others });
        }
        let most = entries.min(others.1);
        self.tailed(most, |row, p_row, q_row| {
            let ours = self.entries(Side::P, row, usize::MAX)?;
            let theirs = q.entries(Side::Q, row, usize::MAX)?;
            (p_row[most], q_row[most]) = (rest::<T>(&ours), rest::<T>(&theirs));
            let (mut at, mut ours, mut theirs) =
                (0, ours.iter().peekable(), theirs.iter().peekable());
            while let (Some(&&(p_bin, p)), Some(&&(q_bin, q))) = (ours.peek(), theirs.peek()) {
                if p_bin == q_bin {
                    (p_row[at], q_row[at]) = (p, q);
                    at += 1;
                } else if p_bin < q_bin {
                    p_row[most] += p;
                } else {
                    q_row[most] += q;
                }
                ours.next_if(|_| p_bin <= q_bin);
                theirs.next_if(|_| q_bin <= p_bin);
            }
            p_row[most] += ours.map(|&(_, p)| p).sum::<f64>();
            q_row[most] += theirs.map(|&(_, q)| q).sum::<f64>();
            Ok(())
        })
    }

    /// Rows of `bins` bins and a tail, each made by `fill`, all of zeros before.
    fn tailed(
        &self,
        bins: usize,
        fill: impl Fn(usize, &mut [f64], &mut [f64]) -> Result<(), Error> + Sync,
    ) -> Result<Tailed, Error> {
        threads::ready()?;
        let width = bins + 1;
        let [mut p, mut q] = [(); 2].map(|()| vec![0.0; self.values.nrows() * width]);
        let rows = p.par_chunks_mut(width).zip(q.par_chunks_mut(width)).enumerate();
        let failed =
            rows.filter_map(|(row, (p, q))| fill(row, p, q).err().map(|error| (row, error)));
        if let Some((_, error)) = failed.min_by_key(|&(row, _)| row) {
            return Err(error);
        }
        let array = |side| Array2::from_shape_vec((self.values.nrows(), width), side);
        match (array(p), array(q)) {
            (Ok(p), Ok(q)) => Ok(Tailed { p, q }),
            // Cannot be: there are as many numbers as the shape has.
            _ => Err(Error::NoBins),
        }
    }

    /// The entries of a row that have mass, by their bins.
    fn entries(&self, side: Side, row: usize, bins: usize) -> Result<Vec<Entry>, Error> {
        let offender = |at: Option<usize>, value: f64, rule: Rule| {
            Error::Invalid(InvalidRow { side, kind: self.kind, row, bin: at, value, rule })
        };
        let (indices, values) = (self.indices.row(row), self.values.row(row));
        let mut entries: Vec<Entry> = Vec::with_capacity(values.len());
        for (at, (&index, value)) in indices.iter().zip(values).enumerate() {
            let value = value.to_f64();
            if let Some(rule) = broken_rule(self.kind, value) {
                return Err(offender(Some(at), value, rule));
            }
            let probability = if self.kind == Kind::Probs { value } else { value.exp() };
            if probability > 0.0 && index as usize >= bins {
                return Err(offender(Some(at), f64::from(index), Rule::Index));
            }
            if probability > 0.0 {
                entries.push((index, probability));
            }
        }
        entries.sort_unstable_by_key(|&(bin, _)| bin);
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(offender(None, f64::from(twice[0].0), Rule::Repeated));
        }
        let mass: f64 = entries.iter().map(|&(_, p)| p).sum();
        if mass > 1.0 + EXCESS {
            return Err(offender(None, mass, Rule::Excess));
        }
        Ok(entries)
    }
}

/// The mass that some entries leave; none if the rounding of the entries can have left it, which would be
/// infinitely much where Q has nothing.
fn rest<T: Element>(entries: &[Entry]) -> f64 {
    let rest = 1.0 - entries.iter().map(|&(_, p)| p).sum::<f64>();
    // Of a logarithm a unit in the last place is worth so many of its probability.
    let rounding: f64 = entries.iter().map(|&(_, p)| p * (1.0 - p.ln()).max(1.0)).sum();
    if rest > (rounding * epsilon::<T>()).min(EXCESS) { rest } else { 0.0 }
}

/// The distance from 1 to the next larger number.
fn epsilon<T: Element>() -> f64 {
    let halves = std::iter::successors(Some(1.0), |&step| Some(step / 2.0));
    halves.take_while(|step| T::from_f64(1.0 + step).to_f64() > 1.0).last().unwrap_or(1.0)
}

/// A whole row, as probabilities.
struct Whole<'a, T> {
    kind: Kind,
    row: ArrayView1<'a, T>,
    by: f64,
    /// Of logarithms, the largest; and the mass in units of its exponential.
    top: f64,
    mass: f64,
}

impl<'a, T: Element> Whole<'a, T> {
    fn of(kind: Kind, row: ArrayView1<'a, T>, temperature: f64, at: usize) -> Result<Self, Error> {
        let offender = |bin: Option<usize>, value: f64, rule: Rule| {
            Error::Invalid(InvalidRow { side: Side::Q, kind, row: at, bin, value, rule })
        };
        let mut top = f64::NEG_INFINITY;
        for (bin, value) in row.iter().enumerate() {
            let value = value.to_f64();
            if let Some(rule) = broken_rule(kind, value) {
                return Err(offender(Some(bin), value, rule));
            }
            top = top.max(value);
        }
        let by = if kind == Kind::Logits { 1.0 / temperature } else { 1.0 };
        let mut whole = Whole { kind, row, by, top, mass: 1.0 };
        whole.mass = whole.mass_of(0..row.len());
        match whole.mass > 0.0 && top > f64::NEG_INFINITY {
            true => Ok(whole),
            false => Err(offender(None, 0.0, Rule::NoMass)),
        }
    }

    fn probability(&self, bin: usize) -> f64 {
        let value = self.row[bin].to_f64();
        let weight = match self.kind {
            Kind::Probs => value,
            Kind::LogProbs | Kind::Logits => ((value - self.top) * self.by).exp(),
        };
        weight / self.mass
    }

    fn mass_of(&self, bins: std::ops::Range<usize>) -> f64 {
        bins.map(|bin| self.probability(bin)).sum()
    }
}

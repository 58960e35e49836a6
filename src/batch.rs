//! The borrowed input: P and Q, rows × bins, and how to read them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ndarray::{ArrayView1, ArrayView2, Axis, Slice};

use crate::Error;
use crate::element::Element;
use crate::error::{InvalidRow, Rule, Side, by_name};
use crate::kind::Kind;

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        by_name("input kind", name, Kind::ALL, Kind::name)
    }
}

/// What to make of a row whose sum, its mass, is not 1.
///
/// With `P = Σp` and `Q = Σq`:
///
/// ```
/// use kullback::{Batch, Divergence, Engine, Mass};
/// use ndarray::array;
///
/// let (p, q) = (array![[3.0_f64, 1.0]], array![[0.5, 0.5]]);
/// let batch = Batch::probs(&p, &q)?;
/// let value = |mass| {
///     let outcome = Engine::cpu().rows(Divergence::Kl, &batch.with_mass(mass))?;
///     Ok::<_, kullback::Error>(outcome.values[0])
/// };
/// assert!(value(Mass::Check).is_err());
/// assert!((value(Mass::Normalize)? - (0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln())).abs() < 1e-15);
/// assert!((value(Mass::AsGiven)? - (3.0 * 6_f64.ln() + 2_f64.ln())).abs() < 1e-14);
/// assert!((value(Mass::Generalized)? - (3.0 * 6_f64.ln() + 2_f64.ln() - 3.0)).abs() < 1e-14);
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mass {
    /// Both masses must lie within the tolerance of 1; the value is the one of `Normalize`.
    #[default]
    Check,
    /// Each row is divided by its sum: `Σ (p/P)·ln((p/P)/(q/Q))`, as `scipy.stats.entropy(p, q)`.
    /// Never negative. A mass of 0 is invalid.
    Normalize,
    /// `Σ p·ln(p/q)` literally, as the sum of `scipy.special.rel_entr`. It may be negative when
    /// the masses differ. A row P of zeros gives 0.
    AsGiven,
    /// The generalized divergence `Σ p·ln(p/q) − p + q`, as the sum of `scipy.special.kl_div`.
    /// Never negative. A row P of zeros gives the mass of Q.
    Generalized,
}

impl Mass {
    /// All of them.
    pub const ALL: &'static [Mass] =
        &[Mass::Check, Mass::Normalize, Mass::AsGiven, Mass::Generalized];

    /// The name, as the command takes it.
    pub fn name(self) -> &'static str {
        match self {
            Mass::Check => "check",
            Mass::Normalize => "normalize",
            Mass::AsGiven => "as-given",
            Mass::Generalized => "generalized",
        }
    }
}

impl fmt::Display for Mass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mass {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        by_name("mass policy", name, Mass::ALL, Mass::name)
    }
}

/// What to do about a row that is no distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnInvalid {
    /// Fail with [`Error::Invalid`], which names the first such row, its bin, value and rule.
    #[default]
    Error,
    /// Give NaN and a [`Status::Invalid`](crate::Status::Invalid) in that row, and every other row its value.
    Nan,
}

/// The borrowed input of a call: P and Q as rows × bins, and how to read them.
///
/// Views of any stride are taken, transposed and reversed ones too. A side with a single row is
/// compared with every row of the other, without being copied.
///
/// ```
/// use kullback::{Batch, Mass, OnInvalid};
/// use ndarray::array;
///
/// let counts = array![[3.0_f32, 1.0, 0.0], [2.0, 2.0, 2.0]];
/// let model = array![[0.5_f32, 0.25, 0.25]];
/// let batch = Batch::probs(&counts, &model)?
///     .with_mass(Mass::Normalize)
///     .with_on_invalid(OnInvalid::Nan);
/// assert_eq!((batch.rows(), batch.bins()), (2, 3));
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    p: ArrayView2<'a, T>,
    q: ArrayView2<'a, T>,
    rows: usize,
    kinds: [Kind; 2],
    temperature: f64,
    mass: Mass,
    tolerance: f64,
    on_invalid: OnInvalid,
    masses: bool,
    bin_weights: Option<&'a [f64]>,
}

impl<'a, T: Element> Batch<'a, T> {
    /// Probabilities: `p` and `q` are rows × bins, or one of them is 1 × bins.
    ///
    /// Only the shapes are looked at here. The values are checked where they are read, and what
    /// is wrong with them is reported by the call that computes.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bins differ, or the rows do and neither side has exactly one;
    /// [`Error::NoBins`] if there are rows but no bins.
    pub fn probs(
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        Batch::of(Kind::Probs, p, Kind::Probs, q)
    }

    /// Natural logarithms of probabilities on both sides.
    ///
    /// # Errors
    /// As [`probs`](Self::probs).
    pub fn log_probs(
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        Batch::of(Kind::LogProbs, p, Kind::LogProbs, q)
    }

    /// Logits on both sides.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine};
    /// use ndarray::array;
    ///
    /// let teacher = array![[2.0_f32, 0.0, f32::NEG_INFINITY]];
    /// let student = array![[1002.0_f32, 1001.0, f32::NEG_INFINITY]];
    /// let batch = Batch::logits(&teacher, &student)?.with_temperature(2.0)?;
    /// let outcome = Engine::cpu().rows(Divergence::Kl, &batch)?;
    /// assert!((outcome.values[0] - 0.0263446).abs() < 1e-7);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`probs`](Self::probs).
    pub fn logits(
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        Batch::of(Kind::Logits, p, Kind::Logits, q)
    }

    /// Sides of any two kinds.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine, Kind};
    /// use ndarray::array;
    ///
    /// // Labels with a little smoothing against what a classifier says: cross-entropy less entropy.
    /// let (labels, logits) = (array![[0.9_f32, 0.05, 0.05]], array![[3.0_f32, -1.0, 0.0]]);
    /// let batch = Batch::of(Kind::Probs, &labels, Kind::Logits, &logits)?;
    /// let outcome = Engine::cpu().rows(Divergence::Kl, &batch)?;
    /// assert!((outcome.values[0] - 0.0214862).abs() < 1e-7);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`probs`](Self::probs).
    pub fn of(
        p_kind: Kind,
        p: impl Into<ArrayView2<'a, T>>,
        q_kind: Kind,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        let (p, q) = (p.into(), q.into());
        let rows = paired(p.dim(), q.dim())?.0;
        Ok(Batch { rows, ..Batch::unpaired([p_kind, q_kind], p, q) })
    }

    /// Two sides whose rows are paired by [`pair`](Self::pair) alone.
    pub(crate) fn unpaired(
        kinds: [Kind; 2],
        p: ArrayView2<'a, T>,
        q: ArrayView2<'a, T>,
    ) -> Batch<'a, T> {
        Batch {
            p,
            q,
            rows: 0,
            kinds,
            temperature: 1.0,
            mass: Mass::default(),
            tolerance: T::MASS_TOLERANCE,
            on_invalid: OnInvalid::default(),
            masses: false,
            bin_weights: None,
        }
    }

    /// The same reading of a row of P against one of Q.
    pub(crate) fn pair(&self, p_row: usize, q_row: usize) -> Batch<'a, T> {
        let mut pair = self.part(p_row..p_row + 1, q_row..q_row + 1);
        pair.rows = 1;
        pair
    }

    /// The same reading of some rows of each side, which are not paired.
    pub(crate) fn part(&self, p_rows: Range<usize>, q_rows: Range<usize>) -> Batch<'a, T> {
        let mut part = Batch { rows: 0, ..*self };
        part.p.slice_axis_inplace(Axis(0), Slice::from(p_rows));
        part.q.slice_axis_inplace(Axis(0), Slice::from(q_rows));
        part
    }

    /// The same reading of other numbers, which make so many rows.
    pub(crate) fn of_others<'o, U: Element>(
        &self,
        p: ArrayView2<'o, U>,
        q: ArrayView2<'o, U>,
        rows: usize,
    ) -> Batch<'o, U>
    where
        'a: 'o,
    {
        let Batch { kinds, temperature, mass, tolerance, on_invalid, masses, bin_weights, .. } =
            *self;
        Batch { p, q, rows, kinds, temperature, mass, tolerance, on_invalid, masses, bin_weights }
    }

    /// Whether both sides are the same numbers in memory, read alike.
    pub(crate) fn is_one_side(&self) -> bool {
        let of = |side: &ArrayView2<'a, T>| (side.as_ptr(), side.dim(), side.strides().to_vec());
        self.kinds[0] == self.kinds[1] && of(&self.p) == of(&self.q)
    }

    /// Sets the temperature by which logits are divided before the softmax. Distillation losses
    /// multiply the divergence by its square; that is left to the caller.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `1e-6 ≤ temperature ≤ 1e6`, or if it is not 1 and neither side is
    /// logits.
    pub fn with_temperature(mut self, temperature: f64) -> Result<Self, Error> {
        check_temperature(self.kinds, temperature)?;
        self.temperature = temperature;
        Ok(self)
    }

    /// Sets the mass policy.
    #[must_use]
    pub fn with_mass(mut self, mass: Mass) -> Self {
        self.mass = mass;
        self
    }

    /// Sets how far a mass may lie from 1 under [`Mass::Check`].
    ///
    /// # Errors
    /// [`Error::Setting`] unless `0 ≤ tolerance < 1`.
    pub fn with_mass_tolerance(mut self, tolerance: f64) -> Result<Self, Error> {
        check_tolerance(tolerance)?;
        self.tolerance = tolerance;
        Ok(self)
    }

    /// Sets what happens to rows that are no distributions.
    #[must_use]
    pub fn with_on_invalid(mut self, on_invalid: OnInvalid) -> Self {
        self.on_invalid = on_invalid;
        self
    }

    /// Asks for the masses of the rows as well, which come in
    /// [`Outcome::masses`](crate::Outcome::masses). Where rows are short this takes more memory than
    /// the results.
    #[must_use]
    pub fn with_masses(mut self) -> Self {
        self.masses = true;
        self
    }

    /// Gives each bin a weight, by which the probabilities of both sides are multiplied before anything
    /// else is done with them: a weight of 0 leaves a bin out as if it were not there, whatever stands in
    /// it; widths of bins make probabilities of densities. Under [`Mass::Check`] the weighted rows are to
    /// sum to 1.
    ///
    /// Batches with weights are computed in f64 on the CPU, whatever the engine. Their gradients are in the
    /// numbers that were given, not in their products: exactly 0 in what is left out, unless the whole row has none.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine, Mass};
    /// use ndarray::array;
    ///
    /// // The third bin is padding.
    /// let (p, q) = (array![[0.25_f32, 0.25, f32::NAN]], array![[0.1_f32, 0.3, 0.6]]);
    /// let batch = Batch::probs(&p, &q)?.with_mass(Mass::Normalize);
    /// let batch = batch.with_bin_weights(&[1.0, 1.0, 0.0])?;
    /// let outcome = Engine::cpu().rows(Divergence::Kl, &batch)?;
    /// assert!((outcome.values[0] - 0.143841).abs() < 1e-6); // (½, ½) against (¼, ¾)
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Weights`] if there are not as many weights as bins, or one of them is negative or no
    /// finite number.
    pub fn with_bin_weights(mut self, weights: &'a [f64]) -> Result<Self, Error> {
        check_weights("bins", self.bins(), weights)?;
        self.bin_weights = Some(weights);
        Ok(self)
    }

    /// How many results there will be.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many outcomes each distribution has.
    pub fn bins(&self) -> usize {
        self.p.ncols()
    }

    /// How many rows one side has: 1 where it is compared with every row of the other.
    pub fn side_rows(&self, side: Side) -> usize {
        self.side(side).nrows()
    }

    /// What the numbers of one side are.
    pub fn kind(&self, side: Side) -> Kind {
        match side {
            Side::P => self.kinds[0],
            Side::Q => self.kinds[1],
        }
    }

    /// The temperature by which logits are divided.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// The mass policy.
    pub fn mass(&self) -> Mass {
        self.mass
    }

    /// How far a mass may lie from 1 under [`Mass::Check`].
    pub fn mass_tolerance(&self) -> f64 {
        self.tolerance
    }

    /// What happens to rows that are no distributions.
    pub fn on_invalid(&self) -> OnInvalid {
        self.on_invalid
    }

    /// Whether the masses of the rows are asked for.
    pub fn wants_masses(&self) -> bool {
        self.masses
    }

    /// The weights of the bins, if they have any.
    pub fn bin_weights(&self) -> Option<&'a [f64]> {
        self.bin_weights
    }

    /// The same reading of some of the rows. A side with a single row is kept whole.
    ///
    /// # Panics
    /// If the range does not lie within `0..self.rows()`.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Batch<'a, T> {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of a batch of {}",
            self.rows
        );
        let cut = |mut side: ArrayView2<'a, T>| {
            if side.nrows() == self.rows {
                side.slice_axis_inplace(Axis(0), Slice::from(rows.clone()));
            }
            side
        };
        Batch { p: cut(self.p), q: cut(self.q), rows: rows.len(), ..*self }
    }

    /// The same with P and Q in each other's place.
    pub(crate) fn swapped(&self) -> Batch<'a, T> {
        let [p_kind, q_kind] = self.kinds;
        Batch { p: self.q, q: self.p, kinds: [q_kind, p_kind], ..*self }
    }

    /// What one side holds for a row of results: its own row, or the one that it repeats.
    ///
    /// # Panics
    /// If `row` is not less than `self.rows()`.
    pub fn row(&self, side: Side, row: usize) -> ArrayView1<'_, T> {
        self.side(side).index_axis(Axis(0), self.index(side, row))
    }

    /// Whether both sides are probabilities.
    pub(crate) fn is_probs(&self) -> bool {
        self.kinds == [Kind::Probs; 2]
    }

    /// Whether both sides are logarithms.
    pub(crate) fn are_logs(&self) -> bool {
        !self.kinds.contains(&Kind::Probs)
    }

    /// What one side holds for a row of results, side by side in memory: as it lies, or copied if
    /// it is strided.
    pub(crate) fn packed(&self, side: Side, row: usize) -> Cow<'_, [T]> {
        match self.row(side, row).to_slice() {
            Some(bins) => Cow::Borrowed(bins),
            None => Cow::Owned(self.row(side, row).to_vec()),
        }
    }

    /// What one side holds for some rows of results, side by side in memory: as it lies, or copied
    /// to `space` if it is strided. A side with a single row gives that row only.
    #[inline(always)]
    pub(crate) fn packed_rows<'s>(
        &'s self,
        side: Side,
        rows: Range<usize>,
        space: &'s mut Vec<T>,
    ) -> &'s [T] {
        let all = self.side(side);
        let rows = if self.repeats(side) { 0..1 } else { rows };
        if let Some(bins) = all.as_slice() {
            return &bins[rows.start * self.bins()..rows.end * self.bins()];
        }
        let mut some = *all;
        some.slice_axis_inplace(Axis(0), Slice::from(rows));
        if let Some(bins) = some.to_slice() {
            return bins;
        }
        space.clear();
        space.extend(some.iter());
        space
    }

    /// Some rows of one side as they lie in memory, if they lie there one after the other.
    #[cfg(feature = "gpu")]
    pub(crate) fn contiguous(&self, side: Side, rows: Range<usize>) -> Option<&[T]> {
        let first = self.index(side, rows.start);
        let rows = Slice::from(first..first + rows.len());
        self.side(side).slice_axis(Axis(0), rows).to_slice()
    }

    /// Whether every result reads the same row of that side.
    pub(crate) fn repeats(&self, side: Side) -> bool {
        self.side_rows(side) == 1
    }

    pub(crate) fn side(&self, side: Side) -> &ArrayView2<'a, T> {
        match side {
            Side::P => &self.p,
            Side::Q => &self.q,
        }
    }

    /// Where a result's row stands in that side.
    fn index(&self, side: Side, row: usize) -> usize {
        assert!(row < self.rows, "row {row} of a batch of {}", self.rows);
        if self.repeats(side) { 0 } else { row }
    }

    /// The first bin of a row that holds nothing of its side's kind, P before Q.
    pub(crate) fn offender(&self, row: usize) -> Option<InvalidRow> {
        let (p, q) = (self.row(Side::P, row), self.row(Side::Q, row));
        let left_out = |bin: usize| self.bin_weights.is_some_and(|weights| weights[bin] == 0.0);
        for (bin, (&p, &q)) in p.iter().zip(q).enumerate().filter(|&(bin, _)| !left_out(bin)) {
            for (side, value) in [(Side::P, p.to_f64()), (Side::Q, q.to_f64())] {
                if let Some(rule) = broken_rule(self.kind(side), value) {
                    let row = self.offending_row(side, row, value, rule);
                    return Some(InvalidRow { bin: Some(bin), ..row });
                }
            }
        }
        None
    }

    /// The first bin of a side's own row that holds nothing of its kind.
    pub(crate) fn offender_of(&self, side: Side, row: usize) -> Option<InvalidRow> {
        let numbers = self.side(side).row(row).into_iter().map(|x| x.to_f64());
        numbers.enumerate().find_map(|(bin, value)| {
            let rule = broken_rule(self.kind(side), value)?;
            Some(InvalidRow { row, bin: Some(bin), ..self.offending(side, value, rule) })
        })
    }

    /// The row of a side as a whole, as an offender.
    pub(crate) fn offending_row(
        &self,
        side: Side,
        row: usize,
        value: f64,
        rule: Rule,
    ) -> InvalidRow {
        InvalidRow { row: self.index(side, row), ..self.offending(side, value, rule) }
    }

    /// The same for whoever knows the row.
    pub(crate) fn offending(&self, side: Side, value: f64, rule: Rule) -> InvalidRow {
        InvalidRow { side, kind: self.kind(side), row: 0, bin: None, value, rule }
    }
}

/// Rows and bins of two sides of rows and bins that are compared row by row.
pub(crate) fn paired(p: (usize, usize), q: (usize, usize)) -> Result<(usize, usize), Error> {
    let rows = match (p.0, q.0) {
        (p_rows, q_rows) if p_rows == q_rows => Some(p_rows),
        (1, rows) | (rows, 1) => Some(rows),
        _ => None,
    };
    match rows {
        Some(1..) if p.1 == 0 && q.1 == 0 => Err(Error::NoBins),
        Some(rows) if p.1 == q.1 => Ok((rows, p.1)),
        _ => Err(Error::Shape { p, q }),
    }
}

/// Whether logits, if a side is such, may be divided by this.
pub(crate) fn check_temperature(kinds: [Kind; 2], temperature: f64) -> Result<(), Error> {
    let refused = |rule| Error::Setting { name: "temperature", value: temperature, rule };
    if !(1e-6..=1e6).contains(&temperature) {
        return Err(refused("it must be at least 1e-6 and at most 1e6"));
    }
    if temperature != 1.0 && !kinds.contains(&Kind::Logits) {
        return Err(refused("only logits have one, and neither side is logits"));
    }
    Ok(())
}

/// Whether there are as many weights as there should be, and all of them are some.
pub(crate) fn check_weights(of: &'static str, count: usize, weights: &[f64]) -> Result<(), Error> {
    let wrong = weights.iter().position(|weight| !(0.0..=f64::MAX).contains(weight));
    match wrong {
        _ if weights.len() != count => {
            Err(Error::Weights { of, count, given: weights.len(), wrong: None })
        }
        Some(at) => Err(Error::Weights { of, count, given: count, wrong: Some((at, weights[at])) }),
        None => Ok(()),
    }
}

/// Whether a mass may lie this far from 1.
pub(crate) fn check_tolerance(tolerance: f64) -> Result<(), Error> {
    if !(0.0..1.0).contains(&tolerance) {
        return Err(Error::Setting {
            name: "mass tolerance",
            value: tolerance,
            rule: "it must be 0 or more and less than 1",
        });
    }
    Ok(())
}

/// Which rule a number breaks that is not of its side's kind.
pub(crate) fn broken_rule(kind: Kind, value: f64) -> Option<Rule> {
    if value.is_nan() {
        Some(Rule::NotANumber)
    } else if value == f64::INFINITY {
        Some(Rule::Infinite)
    } else if kind == Kind::Probs && value < 0.0 {
        Some(Rule::Negative)
    } else {
        None
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn rows_that_lie_one_after_the_other_are_one_slice() {
        let rows = Array2::from_shape_fn((4, 3), |(row, bin)| (3 * row + bin) as f32);
        let one = Array2::from_elem((1, 3), 0.5_f32);
        let batch = Batch::probs(&rows, &one).unwrap();
        assert_eq!(
            batch.contiguous(Side::P, 1..4),
            Some(&[3., 4., 5., 6., 7., 8., 9., 10., 11.][..])
        );
        assert_eq!(batch.contiguous(Side::P, 2..3), Some(&[6., 7., 8.][..]));
        assert_eq!(batch.contiguous(Side::Q, 3..4), Some(&[0.5; 3][..]));
        // Reversed rows, and rows with a bin left out between one and the next.
        for bins in [Slice::new(0, None, -1), Slice::from(..2)] {
            let side = rows.slice_axis(Axis(1), bins);
            let batch = Batch::probs(side, side).unwrap();
            assert_eq!(batch.contiguous(Side::P, 1..3), None);
        }
    }
}

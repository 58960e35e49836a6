//! The borrowed input of a matrix: the rows of P, the rows of Q, and how to read them.

use std::ops::Range;

use ndarray::ArrayView2;

use crate::batch::{Batch, Mass, OnInvalid};
use crate::element::Element;
use crate::kind::Kind;
use crate::{Error, Side};

/// The borrowed input of [`Engine::matrix`](crate::Engine::matrix): each row of P is paired with each
/// row of Q.
///
/// It is read as a [`Batch`] is, and has the same settings; only the numbers of rows are independent.
///
/// ```
/// use kullback::{Mass, Pairs};
/// use ndarray::array;
///
/// let documents = array![[3.0_f32, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 1.0, 9.0]];
/// let topics = array![[0.5_f32, 0.25, 0.25], [0.1, 0.1, 0.8]];
/// let pairs = Pairs::probs(&documents, &topics)?.with_mass(Mass::Normalize);
/// assert_eq!((pairs.shape(), pairs.bins()), ((3, 2), 3));
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a, T> {
    sides: Batch<'a, T>,
    memory: usize,
}

/// What bands of a matrix may take, unless another limit is set.
const MEMORY: usize = 256 << 20;

impl<'a, T: Element> Pairs<'a, T> {
    /// Probabilities: `p` is m × bins and `q` is n × bins.
    ///
    /// # Errors
    /// [`Error::Bins`] if the bins differ; [`Error::NoBins`] if there are rows on both sides but no
    /// bins.
    pub fn probs(
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        Pairs::of(Kind::Probs, p, Kind::Probs, q)
    }

    /// Natural logarithms of probabilities on both sides.
    ///
    /// # Errors
    /// As [`probs`](Self::probs).
    pub fn log_probs(
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        Pairs::of(Kind::LogProbs, p, Kind::LogProbs, q)
    }

    /// Logits on both sides.
    ///
    /// # Errors
    /// As [`probs`](Self::probs).
    pub fn logits(
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Self, Error> {
        Pairs::of(Kind::Logits, p, Kind::Logits, q)
    }

    /// Sides of any two kinds.
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
        if p.ncols() != q.ncols() {
            return Err(Error::Bins { p: p.dim(), q: q.dim() });
        }
        if p.ncols() == 0 && p.nrows() > 0 && q.nrows() > 0 {
            return Err(Error::NoBins);
        }
        Ok(Pairs { sides: Batch::unpaired([p_kind, q_kind], p, q), memory: MEMORY })
    }

    /// As [`Batch::with_temperature`].
    ///
    /// # Errors
    /// As there.
    pub fn with_temperature(self, temperature: f64) -> Result<Self, Error> {
        Ok(Pairs { sides: self.sides.with_temperature(temperature)?, ..self })
    }

    /// As [`Batch::with_mass`].
    #[must_use]
    pub fn with_mass(self, mass: Mass) -> Self {
        Pairs { sides: self.sides.with_mass(mass), ..self }
    }

    /// As [`Batch::with_mass_tolerance`].
    ///
    /// # Errors
    /// As there.
    pub fn with_mass_tolerance(self, tolerance: f64) -> Result<Self, Error> {
        Ok(Pairs { sides: self.sides.with_mass_tolerance(tolerance)?, ..self })
    }

    /// As [`Batch::with_on_invalid`]; an invalid row of a side makes NaN of its row or column of the
    /// matrix.
    #[must_use]
    pub fn with_on_invalid(self, on_invalid: OnInvalid) -> Self {
        Pairs { sides: self.sides.with_on_invalid(on_invalid), ..self }
    }

    /// Sets how many bytes a band of [`matrix_into`](crate::Engine::matrix_into) may take, 256 MiB
    /// unless set. One row of the matrix is the least. What the rows are made ready into is not
    /// counted, which is 128 MiB or two rows of the sides at most.
    #[must_use]
    pub fn with_memory(self, bytes: usize) -> Self {
        Pairs { memory: bytes, ..self }
    }

    /// How many rows the matrix has, and how many columns: the rows of P, and those of Q.
    pub fn shape(&self) -> (usize, usize) {
        (self.sides.side_rows(Side::P), self.sides.side_rows(Side::Q))
    }

    /// How many outcomes each distribution has.
    pub fn bins(&self) -> usize {
        self.sides.bins()
    }

    /// What the numbers of one side are.
    pub fn kind(&self, side: Side) -> Kind {
        self.sides.kind(side)
    }

    /// The mass policy.
    pub fn mass(&self) -> Mass {
        self.sides.mass()
    }

    /// What happens to rows that are no distributions.
    pub fn on_invalid(&self) -> OnInvalid {
        self.sides.on_invalid()
    }

    /// One row of P and one of Q as a batch.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn pair(&self, p_row: usize, q_row: usize) -> Batch<'a, T> {
        self.sides.pair(p_row, q_row)
    }

    /// The same reading of some of the rows.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn part(&self, p_rows: Range<usize>, q_rows: Range<usize>) -> Pairs<'a, T> {
        Pairs { sides: self.sides.part(p_rows, q_rows), ..*self }
    }

    /// Both sides, unpaired.
    pub(crate) fn sides(&self) -> &Batch<'a, T> {
        &self.sides
    }

    /// The rows of a band of the matrix.
    pub(crate) fn band_rows(&self) -> usize {
        let row = self.shape().1.saturating_mul(size_of::<T::Value>());
        (self.memory / row.max(1)).max(1)
    }

    /// Parts of the matrix of a band's size at most, row by row: square where it is large, so that the
    /// work of making rows ready is shared by many pairs.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let (m, n) = self.shape();
        let room = (self.memory / size_of::<T::Value>()).max(1);
        let rows = room.isqrt().max(room / n.max(1)).clamp(1, m.max(1));
        let columns = (room / rows).max(1);
        blocks(0..m, rows).flat_map(move |p| blocks(0..n, columns).map(move |q| (p.clone(), q)))
    }
}

/// Ranges of up to so many that make up a range.
pub(crate) fn blocks(of: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = of.end;
    of.step_by(most).map(move |first| first..(first + most).min(end))
}

//! The blocking engine: each method waits for the asynchronous one of the same name.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use ndarray::{Array1, ArrayView1, ArrayView2, ArrayViewMut2};

use crate::batch::Batch;
use crate::cost::Costs;
use crate::cross_check::CrossCheck;
use crate::element::Element;
#[cfg(feature = "gpu")]
use crate::gpu::adapter::Adapter;
use crate::{Divergence, Error, Gradient, Matrix, Nearest, Outcome, Pairs, Wanted, nonblocking};

/// The engine: computes batches on one backend, or on the one that suits each batch.
///
/// Cloning gives another handle on the same backend; handles can be shared between threads.
/// [`nonblocking::Engine`] has the same methods for asynchronous callers.
///
/// ```
/// use kullback::Engine;
/// use ndarray::array;
///
/// let p = array![[0.5_f32, 0.5], [0.9, 0.1]];
/// let q = array![[0.25_f32, 0.75]];
/// let kl = Engine::auto().kl(&p, &q)?;
/// assert!((kl[0] - 0.143841).abs() < 1e-6);
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    engine: nonblocking::Engine,
}

impl Engine {
    /// Whichever backend finishes first for the batch at hand: a hardware GPU or the CPU, never a
    /// software adapter. Adapters are looked for when the first batch comes that is large enough
    /// for them to matter.
    pub fn auto() -> Engine {
        Engine { engine: nonblocking::Engine::auto() }
    }

    /// The CPU backend. It is always there.
    pub fn cpu() -> Engine {
        Engine { engine: nonblocking::Engine::cpu() }
    }

    /// The GPU backend, on the first adapter that can be opened and computes known rows right:
    /// discrete before integrated before software. Each has 20 seconds for it.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none, which says of each why; there is no silent substitute.
    pub fn gpu() -> Result<Engine, Error> {
        pollster::block_on(nonblocking::Engine::gpu()).map(|engine| Engine { engine })
    }

    /// The GPU backend with the CPU to [fall back](Self::with_cpu_fallback) on, or the CPU backend
    /// where no adapter can be used. Then [`Outcome::recovery`] says why not.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine};
    /// use ndarray::array;
    ///
    /// let (p, q) = (array![[0.5_f32, 0.5]], array![[0.25_f32, 0.75]]);
    /// let outcome = Engine::gpu_or_cpu().rows(Divergence::Kl, &Batch::probs(&p, &q)?)?;
    /// if let Some(reason) = outcome.recovery.reason {
    ///     eprintln!("{} rows were left to the CPU: {reason}", outcome.recovery.cpu_rows);
    /// }
    /// # Ok::<(), kullback::Error>(())
    /// ```
    pub fn gpu_or_cpu() -> Engine {
        pollster::block_on(nonblocking::Engine::gpu_or_cpu()).into()
    }

    /// The GPU backend on a certain adapter, one of [`adapters`](crate::adapters).
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened, or computes known rows wrong.
    #[cfg(feature = "gpu")]
    pub fn with_adapter(adapter: &Adapter) -> Result<Engine, Error> {
        pollster::block_on(nonblocking::Engine::with_adapter(adapter))
            .map(|engine| Engine { engine })
    }

    /// The same engine, except that rows which the GPU cannot finish are computed on the CPU instead
    /// of being an error: of a device that fails and cannot be opened anew, of types that it does
    /// not take, and of rows too long for it. [`Outcome::recovery`] counts them and says why. `auto`
    /// always does so; on `cpu` it changes nothing.
    ///
    #[cfg_attr(feature = "gpu", doc = "```")]
    #[cfg_attr(not(feature = "gpu"), doc = "```ignore")]
    /// use kullback::{AdapterKind, Engine, adapters};
    ///
    /// let discrete = adapters().into_iter().find(|adapter| adapter.kind() == AdapterKind::DiscreteGpu);
    /// if let Some(adapter) = discrete {
    ///     let engine = Engine::with_adapter(&adapter)?.with_cpu_fallback();
    ///     println!("computes on {engine} as long as it can");
    /// }
    /// # Ok::<(), kullback::Error>(())
    /// ```
    #[must_use]
    pub fn with_cpu_fallback(self) -> Engine {
        Engine { engine: self.engine.with_cpu_fallback() }
    }

    /// The same engine with another limit of how long a call waits for a device that makes no
    /// progress; 30 seconds unless set. A device that is later counts as hung, and is not tried
    /// again in that call. Times that a device needs to compile its kernels count too.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Engine {
        Engine { engine: self.engine.with_deadline(deadline) }
    }

    /// One divergence per row of a batch, in nats.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine, Mass};
    /// use ndarray::array;
    ///
    /// let counts = array![[30.0_f32, 10.0, 0.0], [20.0, 20.0, 20.0]];
    /// let model = array![[0.5_f32, 0.25, 0.25]];
    /// let batch = Batch::probs(&counts, &model)?.with_mass(Mass::Normalize).with_masses();
    /// let outcome = Engine::cpu().rows(Divergence::Kl, &batch)?;
    /// assert!((outcome.values[0] - 0.304099).abs() < 1e-6);
    /// assert_eq!(outcome.masses.map(|masses| masses.p[1]), Some(60.0));
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first row that is no distribution, unless the batch asks for
    /// NaN there; [`Error::OutOfMemory`] if there is no room for the results, and [`Error::Thread`] if the
    /// system starts no threads for them, which a few rows do without;
    /// [`Error::Unsupported`] for f64 on an adapter without it, [`Error::TooLong`] for rows that
    /// it cannot address, and [`Error::Device`] if it fails and cannot be opened anew, unless the
    /// engine [falls back to the CPU](Self::with_cpu_fallback).
    pub fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        pollster::block_on(self.engine.rows(divergence, batch))
    }

    /// Several divergences per row of a batch: an outcome for each, in their order, from one pass over
    /// memory.
    ///
    /// A value may differ from that of [`rows`](Self::rows) in its last places.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine};
    /// use ndarray::array;
    ///
    /// let (p, q) = (array![[0.5_f64, 0.5]], array![[0.3_f64, 0.7]]);
    /// let both = [Divergence::JensenShannon(0.5), Divergence::TotalVariation];
    /// let outcomes = Engine::cpu().several(&both, &Batch::probs(&p, &q)?)?;
    /// assert!((outcomes[0].values[0] - 0.021005925701837).abs() < 1e-15);
    /// assert!((outcomes[1].values[0] - 0.2).abs() < 1e-15);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
    ) -> Result<Vec<Outcome<T::Value>>, Error> {
        pollster::block_on(self.engine.several(divergences, batch))
    }

    /// One divergence per row of a batch, and its gradient in the numbers of P, of Q or of both; with a
    /// weight per row, that of the weighted sum of the values.
    ///
    /// A gradient has the derivatives with respect to the numbers that are given, in their order: what a
    /// call does to them first is a part of what is differentiated, be it the softmax of logits over the
    /// temperature or, under [`Mass::Check`](crate::Mass::Check) and
    /// [`Normalize`](crate::Mass::Normalize), the division by the mass. With `u = ∂D/∂p` of the rows as
    /// distributions and its mean `ū = Σ p·u`, that is `p·(u − ū)/T` in logits, `p·(u − ū)` in
    /// log-probs and `(u − ū)/P` in probs, and `p·u` and `u` where no mass is divided by. Nothing of the
    /// batch's size is held beside the gradients.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine, Wanted};
    /// use ndarray::array;
    ///
    /// // Distillation: D(teacher‖student) at temperature 2, averaged over two rows, as the loss
    /// // F.kl_div(F.log_softmax(student / 2, 1), F.softmax(teacher / 2, 1), reduction="batchmean").
    /// let teacher = array![[2.0_f32, 1.0, -1.0], [0.0, 3.0, f32::NEG_INFINITY]];
    /// let student = array![[1.0_f32, 1.5, 0.0], [1.0, 1.0, 1.0]];
    /// let batch = Batch::logits(&teacher, &student)?.with_temperature(2.0)?;
    /// let weights = array![0.5_f32, 0.5];
    /// let gradient =
    ///     Engine::cpu().gradient(Divergence::Kl, &batch, Wanted::Q, Some(weights.view()))?;
    /// let loss = (&gradient.outcome.values * &weights).sum();
    /// // PyTorch's autograd has these.
    /// assert!((loss - 0.3551516).abs() < 1e-6);
    /// let want = [[-0.0501488_f32, 0.0281788, 0.0219700], [0.0377270, -0.1210603, 0.0833333]];
    /// let got = gradient.q.expect("it was asked for");
    /// assert!(got.iter().zip(want.as_flattened()).all(|(got, want)| (got - want).abs() < 1e-7));
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// | case | result |
    /// | --- | --- |
    /// | a masked number, −inf | its derivative is 0 |
    /// | a probability of 0 | the one-sided derivative, as it grows from 0: often −inf, as that of `p·ln p` is, or +inf where the other side has 0 too. `renyi:0` and `tsallis:0` jump there, and have that of the bins beside |
    /// | the value is +inf | NaN in the whole row: there is no gradient |
    /// | the row is invalid, and the batch does not want that to be an error | NaN likewise |
    /// | P = Q bit for bit | exactly 0, `cross-entropy` and `entropy` apart. `js-distance`, `hellinger`, `tv` and `renyi:inf` have no derivative there; 0 is the middle of their slopes |
    /// | `tv` where p = q; `renyi:inf` where bins share the largest ratio | kinks: 0, and an even share |
    /// | a side with a single row | one row, the sum over all rows, as autograd gives through broadcasting |
    /// | [weights of bins](Batch::with_bin_weights) | the derivatives are still those in the numbers given; of what is left out they are 0, unless the whole row has none |
    /// | a weight of 0 | the row has no part in the gradients, whatever it is |
    ///
    /// Relative to the largest of a row derivatives in f32 are right to 1e-5, most to 1e-6, and those in f64 to 1e-12, but
    /// for what f64 rounds away: derivatives in logarithms below 1e-13 or so, of rows that are next to as far apart as can
    /// be. If their numbers are of at most 32 bits, ordinary rows of `kl`, `reverse-kl`, `js` and its root, `jeffreys`,
    /// `hellinger`, `bhattacharyya`, `tv`, `chi2`, and `renyi`, `tsallis` and `alpha` of orders from −5 to 6 (−2 to 3 of
    /// logarithms) are computed in f32, and so is the gradient of `cross-entropy` in Q; all others in f64.
    /// Values may differ from those of [`rows`](Self::rows) in their last places. The same batch has the same
    /// bits whatever the number of threads.
    ///
    /// A GPU computes them of numbers of at most 32 bits, and leaves to the CPU what f32 is not right for:
    /// rows whose values take a closer look, probabilities below 2⁻¹⁰⁰, orders far from 1, `renyi:0`,
    /// `renyi:inf` and `tsallis:0`, and rows too long for one submission.
    /// [`Outcome::closer_looks`](crate::Outcome::closer_looks) counts all these.
    /// [`auto`](Self::auto) computes gradients on the CPU.
    ///
    /// # Errors
    /// As [`rows`](Self::rows); [`Error::Weights`] if there are not as many weights as rows, [`Error::Weight`] if one is not
    /// finite.
    pub fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        wanted: Wanted,
        weights: Option<ArrayView1<'_, T::Value>>,
    ) -> Result<Gradient<T::Value>, Error> {
        pollster::block_on(self.engine.gradient(divergence, batch, wanted, weights))
    }

    /// The same as [`gradient`](Self::gradient), written over what stands in arrays of the caller's:
    /// of the sides that have one, which has the side's own shape. Views of any stride are taken.
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine};
    /// use ndarray::{Array2, array};
    ///
    /// let (p, q) = (array![[1.0_f64, 1.0], [3.0, 1.0]], array![[0.0_f64, 0.0]]);
    /// let batch = Batch::logits(&p, &q)?;
    /// let mut in_q = Array2::zeros((1, 2));
    /// for step in 0..2 {
    ///     let place = Some(in_q.view_mut());
    ///     Engine::cpu().gradient_into(Divergence::Kl, &batch, None, None, place)?;
    /// }
    /// // Σ (q − p) over both rows.
    /// let p = 3.0_f64.exp() / (3.0_f64.exp() + 1.0_f64.exp());
    /// assert!((in_q[[0, 0]] - (0.5 - p)).abs() < 1e-15);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`gradient`](Self::gradient), and [`Error::Place`] for an array of another shape. After
    /// [`Error::Invalid`] the arrays hold the gradients of the rows that are not, in their places.
    pub fn gradient_into<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        p: Option<ArrayViewMut2<'_, T::Value>>,
        q: Option<ArrayViewMut2<'_, T::Value>>,
    ) -> Result<Outcome<T::Value>, Error> {
        pollster::block_on(self.engine.gradient_into(divergence, batch, weights, p, q))
    }

    /// All rows of P against all rows of Q, in nats. Of a symmetric divergence of rows from
    /// themselves, the same array on both sides, each pair is computed once.
    ///
    /// A GPU sums pairs in f32, whatever their kind. What has no form in f32 is left to the CPU, and
    /// [`Matrix::recovery`] says so: f64, masses that rows are not divided by, and divergences other than
    /// `kl`, `reverse-kl`, `jeffreys`, `js` of weight ½ and its root, `hellinger`, `bhattacharyya`, `tv`,
    /// `chi2`, `cross-entropy` and those of order ½. `auto` takes the CPU.
    ///
    /// ```
    /// use kullback::{Divergence, Engine, Pairs};
    /// use ndarray::array;
    ///
    /// let rows = array![[0.5_f64, 0.5], [0.9, 0.1], [0.0, 1.0]];
    /// let pairs = Pairs::probs(&rows, &rows)?;
    /// let matrix = Engine::cpu().matrix(Divergence::JsDistance, &pairs)?;
    /// assert_eq!(matrix.values.dim(), (3, 3));
    /// assert_eq!(matrix.values[[1, 1]], 0.0);
    /// assert_eq!(matrix.values[[2, 0]], matrix.values[[0, 2]]);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first row that is no distribution, P before Q, unless the pairs ask
    /// for NaN there; [`Error::OutOfMemory`] if there is no room for the matrix, which
    /// [`matrix_into`](Self::matrix_into) does without; [`Error::Thread`] if the system starts no threads;
    /// [`Error::Device`] if a device fails and cannot be
    /// opened anew, and [`Error::Unsupported`] if it sums known pairs wrong, unless the engine
    /// [falls back to the CPU](Self::with_cpu_fallback).
    pub fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
    ) -> Result<Matrix<T::Value>, Error> {
        pollster::block_on(self.engine.matrix(divergence, pairs))
    }

    /// The same in bands of rows, as many at a time as the [memory](Pairs::with_memory) takes that is
    /// set for them: each is handed out with the rows of P that are its own, and there is no matrix
    /// besides. A row of P that is no distribution is an error when its band comes, one of Q at once.
    ///
    /// Of a symmetric divergence of rows from themselves, each pair is computed once if a single band
    /// holds them all.
    ///
    /// ```
    /// use kullback::{Divergence, Engine, Error, Pairs};
    /// use ndarray::array;
    ///
    /// let rows = array![[0.5_f32, 0.5], [0.9, 0.1], [0.2, 0.8]];
    /// let pairs = Pairs::probs(&rows, &rows)?.with_memory(2 * 3 * size_of::<f32>());
    /// let mut bands = Vec::new();
    /// Engine::cpu().matrix_into(Divergence::Kl, &pairs, |rows, band| {
    ///     bands.push((rows, band.values.dim()));
    ///     Ok::<(), Error>(())
    /// })?;
    /// assert_eq!(bands, [(0..2, (2, 3)), (2..3, (1, 3))]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix), and whatever `take` returns.
    pub fn matrix_into<T: Element, E: From<Error>>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        take: impl FnMut(Range<usize>, Matrix<T::Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        pollster::block_on(self.engine.matrix_into(divergence, pairs, take))
    }

    /// The `k` rows of Q that are nearest to each row of P, or all if there are fewer: those with the
    /// least divergences of P from them. No more of the matrix is made than two
    /// [bands](Pairs::with_memory) hold.
    ///
    /// ```
    /// use kullback::{Divergence, Engine, Pairs};
    /// use ndarray::array;
    ///
    /// let topics = array![[0.8_f32, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]];
    /// let documents = array![[0.2_f32, 0.7, 0.1]];
    /// let pairs = Pairs::probs(&documents, &topics)?;
    /// let nearest = Engine::cpu().nearest(Divergence::JensenShannon(0.5), &pairs, 2)?;
    /// assert_eq!(nearest.indices.row(0).to_vec(), [1, 0]);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn nearest<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        k: usize,
    ) -> Result<Nearest<T::Value>, Error> {
        pollster::block_on(self.engine.nearest(divergence, pairs, k))
    }

    /// `D(p‖q)` of each row in nats, the first argument first: what PyTorch computes as
    /// `F.kl_div(q.log(), p, reduction="none").sum(-1)`.
    ///
    /// `p` and `q` are rows × bins, or one of them is 1 × bins. Each row must sum to 1 within
    /// 1e-3; [`rows`](Self::rows) with a [`Batch`] has the other policies.
    ///
    /// ```
    /// use kullback::Engine;
    /// use ndarray::array;
    ///
    /// // Kullback 1959, Example 2.1: Binomial(2, 0.4) against the uniform distribution.
    /// let (p, q) = (array![[0.36_f64, 0.48, 0.16]], array![[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]]);
    /// let engine = Engine::cpu();
    /// assert!((engine.kl(&p, &q)?[0] - 0.0852996013183706).abs() < 1e-15);
    /// assert!((engine.kl(&q, &p)?[0] - 0.0974550067853876).abs() < 1e-15);
    /// # Ok::<(), kullback::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`rows`](Self::rows), and [`Error::Shape`] if the shapes do not match.
    pub fn kl<'a, T: Element>(
        &self,
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Array1<T::Value>, Error> {
        pollster::block_on(self.engine.kl(p, q))
    }

    /// Recomputes `rows` rows of an outcome, spread evenly over the batch, by the plain f64
    /// [`reference`](crate::reference).
    ///
    /// ```
    /// use kullback::{Batch, Divergence, Engine, Error};
    /// use ndarray::array;
    ///
    /// let (p, q) = (array![[0.5_f32, 0.5]], array![[0.25_f32, 0.75]]);
    /// let batch = Batch::probs(&p, &q)?;
    /// let engine = Engine::cpu();
    /// let mut outcome = engine.rows(Divergence::Kl, &batch)?;
    /// assert_eq!(engine.cross_check(Divergence::Kl, &batch, &outcome, 100)?.compared, 1);
    /// outcome.values[0] += 1e-5;
    /// let error = engine.cross_check(Divergence::Kl, &batch, &outcome, 100).unwrap_err();
    /// assert!(matches!(error, Error::Disagreement(wrong) if wrong.row == 0));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Disagreement`] naming the worst row and both values, if a value is further from
    /// the reference than 16 units in the last place (f64: 64) and the reference's own rounding, or
    /// if only one of the two calls the row invalid; [`Error::Mismatch`] if the outcome has not as
    /// many rows as the batch.
    pub fn cross_check<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        outcome: &Outcome<T::Value>,
        rows: usize,
    ) -> Result<CrossCheck, Error> {
        pollster::block_on(self.engine.cross_check(divergence, batch, outcome, rows))
    }

    /// Computes known rows of many lengths, with zeros, an infinite row and an identical pair among
    /// them, and holds the results against the reference.
    ///
    /// # Errors
    /// [`Error::Disagreement`] if the backend gives a wrong value; the backend's own errors.
    pub fn self_test(&self) -> Result<(), Error> {
        pollster::block_on(self.engine.self_test())
    }

    /// Measures what calls cost, in some 25 ms on data of its own.
    ///
    /// # Errors
    /// The backend's own.
    pub fn costs(&self) -> Result<Costs, Error> {
        pollster::block_on(self.engine.costs())
    }

    /// The backend: `cpu`, `gpu`, or `auto` where each batch decides.
    pub fn backend(&self) -> &'static str {
        self.engine.backend()
    }

    /// The adapter that this engine computes on; none for `cpu` and `auto`.
    #[cfg(feature = "gpu")]
    pub fn adapter(&self) -> Option<&Adapter> {
        self.engine.adapter()
    }
}

impl Engine {
    /// The engine that it waits for.
    #[cfg(feature = "gpu")]
    pub(crate) fn nonblocking(&self) -> &nonblocking::Engine {
        &self.engine
    }
}

impl From<nonblocking::Engine> for Engine {
    fn from(engine: nonblocking::Engine) -> Engine {
        Engine { engine }
    }
}

impl fmt::Display for Engine {
    /// The backend and, for `gpu`, the adapter's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.fmt(f)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({self})")
    }
}

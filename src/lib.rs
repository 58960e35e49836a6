//! Kullback-Leibler and related divergences for millions of distributions at once: on any GPU that
//! wgpu reaches, and on the CPU's vector units where there is none.
//!
//! ```
//! use kullback::Engine;
//! use ndarray::array;
//!
//! let p = array![[0.7_f32, 0.2, 0.1], [0.5, 0.5, 0.0]];
//! let q = array![[0.1_f32, 0.3, 0.6], [0.5, 0.5, 0.0]];
//! let kl = Engine::auto().kl(&p, &q)?;
//! assert!((kl[0] - 1.101868).abs() < 1e-6);
//! assert_eq!(kl[1], 0.0);
//! # Ok::<(), kullback::Error>(())
//! ```
//!
//! # What is computed
//!
//! `D(P‖Q) = Σ p·ln(p/q)` in nats for each row, the first argument first, with a relative error of
//! a few units in the last place also where P ≈ Q. The textbook sum cannot do that: it subtracts
//! large terms to get a small result, and near equality returns noise, or something negative. Here
//! each bin contributes `p·ln(p/q) − p + q`, which is never negative, formed in a way that subtracts
//! nothing nearly equal; what these terms leave out, `Σ (p − q)`, is summed by itself.
//!
//! A side may also be log-probabilities or logits ([`Kind`]). Such rows are summed by the chain rule
//! of relative entropy, from the exact differences of the logarithms, and no softmax is written
//! down.
//!
//! [`Divergence`] has the other measures, from Jensen-Shannon to Rényi, each as a sum of terms that are
//! never negative; [`Engine::several`] computes several in one pass over memory.
//! [`Engine::gradient`] has the derivatives as well, [`Engine::matrix`] and [`Engine::nearest`] take all
//! rows against all rows. [`Outcome::mean`] and its like make rows one number, and [`top_k`] takes
//! distributions of which only the largest entries are known.
//!
//! | case | result |
//! | --- | --- |
//! | `p = 0` | contributes nothing: `0·ln 0 = 0` |
//! | `p > 0` where `q = 0` | the row is exactly +inf, [`Status::Infinite`]: a right answer, no error |
//! | P = Q bit for bit | exactly 0 |
//! | logits | `p ∝ exp(logit / T)` with [`Batch::with_temperature`]; −inf is a probability of 0; their mass is 1 by definition |
//! | NaN, a negative or an infinite probability; a NaN or +inf logarithm or logit; a row of −inf logits | [`Error::Invalid`] naming row, bin, value and rule; or NaN in that row, with [`OnInvalid::Nan`] |
//! | a mass further from 1 than 1e-3 (16-bit data: 1e-2) | likewise, under [`Mass::Check`]; see [`Mass`] for the other policies |
//! | one row against many | a side with a single row is compared with every row of the other |
//! | no rows, no bins, shapes that differ | an empty result, an error, an error: before any device work |
//! | f16, bf16 and f32 input | f32 results; arithmetic in f32 where that has the digits, else in f64 |
//! | f64 input | f64 arithmetic and results, on the CPU and on adapters that have f64 |
//! | the same row | the same bits, whatever the batch, its place in it and the number of threads, on one backend and adapter |
//!
//! PyTorch's `F.kl_div(x, y)` computes D(y‖x), from logarithms in its first argument; SciPy's
//! `entropy(p, q)` normalizes silently.
//!
//! # How a call runs
//!
//! 1. [`Batch`] borrows P and Q, checks their shapes, and holds how to read them.
//! 2. [`Engine::rows`] hands it to a backend; `auto` picks the one that was measured to be faster.
//! 3. For the GPU, [`plan::Plan`] cuts rows into segments and batches into chunks: plain arithmetic.
//! 4. Each chunk is packed and handed to the thread that owns the device, one ahead of the other.
//! 5. A kernel makes a record of each segment: sums for probabilities, a node of the chain rule for
//!    logarithms. Another merges the records of a row; they come back. For other divergences a third
//!    goes over the same bins with the masses that were found: by how much they still do not balance,
//!    then the sums, four at a time.
//! 6. Each record says which submission wrote it and how many bins it consumed, and both are checked.
//! 7. One function makes value and status of a row's sums or node, for both backends; where these
//!    lack digits (counts, subnormal masses) the row is looked at once more in f64. So are on the host,
//!    for divergences other than Kullback-Leibler's, small entropies, rows next to equality, orders
//!    beyond −5 … 6, and rows longer than a submission holds.
//! 8. [`Outcome`] holds values and statuses; [`Engine::cross_check`] holds them against the
//!    [reference](mod@reference).
//!
//! [`Engine::matrix`] compares all rows of P with all rows of Q, which [`Pairs`] hold: each row is made a
//! distribution once, tiles of pairs are summed in f32, and the few pairs that lack digits are looked at
//! once more. The rows are made ready and the sums are settled by the host, whichever backend sums; a GPU
//! leaves to it what has no form in f32.
//!
//! # When a device fails
//!
//! wgpu panics on some errors of drivers, and says nothing of others; drivers hang. A device lives on
//! a thread of its own, where a panic is caught, and a call looks at a clock while it waits for it
//! ([`Engine::with_deadline`]). An adapter is used once it has computed known rows right, which is
//! asked once per process for each type of input, and of other divergences than `kl` for those that are
//! asked of it.
//!
//! After a fault the rows that are done stay done: the device is opened anew, twice at most in a
//! call, with smaller chunks where memory was the cause. Then a call is an error, [`Error::Device`],
//! unless the engine is [`auto`](Engine::auto) or was told to [fall back](Engine::with_cpu_fallback):
//! there the CPU computes the rows that are left. [`Outcome::recovery`] counts faults and such rows
//! and has the reason, and the `log` crate has each of them. A device that was given up is left
//! alone for a second, then two, then four, before calls try it again. What it held is leaked: after
//! a fault no driver can be trusted to take it back. So a process must not be built with
//! `panic = "abort"`, and calls must not be made in a child of `fork` whose parent made any.
//!
//! # When to use something else
//!
//! For a handful of small distributions a loop of `p * (p / q).ln()` in f64 is simpler. Closed forms
//! between families (two Gaussians) and estimates from samples are not here.
//!
//! # Features
//!
//! `gpu` (default) is the wgpu backend. Without it this is a complete CPU library with the same
//! interface, and [`Engine::gpu`] is an error. No feature changes a number that a backend computes.

pub mod plan;
pub mod reference;
pub mod stream;
pub mod top_k;

mod auto;
mod backend;
mod batch;
mod blocking;
mod chain;
mod cost;
mod cpu;
mod cross_check;
mod divergence;
mod element;
mod engine;
mod error;
#[cfg(feature = "gpu")]
mod gpu;
mod gradient;
mod integrand;
mod kind;
mod matrix;
mod memory;
mod outcome;
mod pairs;
#[cfg(feature = "gpu")]
mod recover;
mod reduction;
#[cfg(feature = "gpu")]
pub mod resident;
mod self_test;
mod slope;
mod sums;
mod term;
mod threads;
mod verdict;

pub use batch::{Batch, Mass, OnInvalid};
pub use blocking::Engine;
pub use cost::{Cost, Costs};
pub use cross_check::CrossCheck;
pub use divergence::Divergence;
pub use element::{Element, Value};
pub use error::{Cause, Disagreement, Error, InvalidRow, Rule, Side};
#[cfg(feature = "gpu")]
pub use gpu::adapter::{Adapter, AdapterKind, adapters};
pub use gradient::{Gradient, Wanted};
pub use kind::Kind;
pub use matrix::{Matrix, Nearest};
pub use memory::available_memory;
pub use outcome::{Masses, Outcome, Recovery, Status};
pub use pairs::Pairs;
pub use reduction::{Reduced, Weighted};

/// The engine for asynchronous callers.
pub mod nonblocking {
    pub use crate::engine::Engine;
}

/// The README's program is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// For the project's own tests: no part of the public interface.
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod internal {
    use crate::cpu::tile::{EXP_TAIL, FAR, NEAR};
    pub use crate::gpu::Injury;
    pub use crate::gpu::kernel::{POLICY_BINDING, Spec};
    use crate::gpu::variant::Output;
    pub use crate::gpu::variant::{Family, Format, Variant};
    use crate::gpu::{family, gradient, kernel, matrix, merge, record, rows};
    use crate::plan::{Form, Limits};
    use crate::recover::Recovering;
    use crate::term::{ATANH_F32, TINY_F32, Term};
    use crate::{Adapter, Engine, Error, Kind, Mass, nonblocking, resident};

    /// Every kernel in every variant.
    pub fn kernels() -> Vec<Spec> {
        let rows = Variant::all().map(|variant| rows::spec(variant, Output::Record));
        let merged = Variant::merged().map(|variant| merge::spec(variant, Output::Record));
        let families = Variant::all().map(|heads| family::spec(heads, kernel::AT_POWERS));
        let resident = Variant::all().filter(|variant| !variant.is_f64());
        let of_f32 = resident.flat_map(|variant| {
            let settles = [rows::spec, merge::spec].map(|spec| spec(variant, Output::Value));
            settles.into_iter().chain([gradient::spec(variant, kernel::AT_POWERS)])
        });
        let matrices = Variant::sums().map(matrix::spec);
        rows.chain(merged).chain(families).chain(of_f32).chain(matrices).collect()
    }

    /// The names of the override constants that every kernel has.
    pub fn overrides() -> [&'static str; 5] {
        kernel::overrides(1, Form::ALONE).map(|(name, _)| name)
    }

    /// The fields of a variant's records, and their offsets.
    pub fn record_fields(variant: Variant) -> Vec<(&'static str, usize)> {
        record::fields(variant)
    }

    /// Numbers that the shaders have to repeat, by their names there: as bits, of floats too.
    pub const SHARED_CONSTANTS: &[(&str, u32)] = &[
        ("SOME_INFINITE", record::SOME_INFINITE),
        ("SOME_STALE", record::SOME_STALE),
        ("SOME_INVALID", record::SOME_INVALID),
        ("SOME_HUGE", record::SOME_HUGE),
        ("SOME_OF_Q_ALONE", record::SOME_OF_Q_ALONE),
        ("SOME_OF_BOTH", record::SOME_OF_BOTH),
        ("SOME_MASKED", record::SOME_MASKED),
        ("AT_LOGARITHMS", kernel::AT_LOGARITHMS),
        ("AT_POWERS", kernel::AT_POWERS),
        ("NO_SUM", family::NO_SUM),
        ("DIFFERENCE", family::DIFFERENCE),
        ("REVERSE_KL", family::REVERSE_KL),
        ("JEFFREYS", family::JEFFREYS),
        ("JENSEN_SHANNON", family::JENSEN_SHANNON),
        ("ROOTS", family::ROOTS),
        ("POWER", family::POWER),
        ("SWAPPED_POWER", family::SWAPPED_POWER),
        ("ROOT_OVERLAP", family::ROOT_OVERLAP),
        ("OVERLAP", family::OVERLAP),
        ("LARGEST", family::LARGEST),
        ("VARIATION", family::VARIATION),
        ("CROSS_ENTROPY", family::CROSS_ENTROPY),
        ("ENTROPY", family::ENTROPY),
        ("KL_SLOPE", gradient::KL),
        ("REVERSE_KL_SLOPE", gradient::REVERSE_KL),
        ("JEFFREYS_SLOPE", gradient::JEFFREYS),
        ("JENSEN_SHANNON_SLOPE", gradient::JENSEN_SHANNON),
        ("POWER_SLOPE", gradient::POWER),
        ("HELLINGER_SLOPE", gradient::HELLINGER),
        ("VARIATION_SLOPE", gradient::VARIATION),
        ("CHI_SQUARED_SLOPE", gradient::CHI_SQUARED),
        ("CROSS_ENTROPY_SLOPE", gradient::CROSS_ENTROPY),
        ("ENTROPY_SLOPE", gradient::ENTROPY),
        ("PROBS", Kind::Probs as u32),
        ("LOG_PROBS", Kind::LogProbs as u32),
        ("LOGITS", Kind::Logits as u32),
        ("INFINITE", f32::INFINITE),
        ("TINY", TINY_F32),
        ("LOWEST_NORMAL", f32::MIN_POSITIVE.to_bits()),
        ("ONE", 1_f32.to_bits()),
        ("CHECK", Mass::Check as u32),
        ("NORMALIZE", Mass::Normalize as u32),
        ("AS_GIVEN", Mass::AsGiven as u32),
        ("GENERALIZED", Mass::Generalized as u32),
        ("NOT_COMPUTED", resident::Status::NotComputed as u32),
        ("OK", resident::Status::Ok as u32),
        ("INFINITE_VALUE", resident::Status::Infinite as u32),
        ("INVALID_BIN", resident::Status::InvalidBin as u32),
        ("WRONG_MASS", resident::Status::WrongMass as u32),
        ("NO_MASS_AT_ALL", resident::Status::NoMass as u32),
        ("LACKS_DIGITS", resident::Status::LacksDigits as u32),
        ("HUGE", f32::HUGE),
        ("LN_2", std::f32::consts::LN_2.to_bits()),
        ("ATANH_0", ATANH_F32[0].to_bits()),
        ("ATANH_1", ATANH_F32[1].to_bits()),
        ("ATANH_2", ATANH_F32[2].to_bits()),
        ("ATANH_3", ATANH_F32[3].to_bits()),
        ("ATANH_4", ATANH_F32[4].to_bits()),
        ("EXP_TAIL_0", EXP_TAIL[0].to_bits()),
        ("EXP_TAIL_1", EXP_TAIL[1].to_bits()),
        ("EXP_TAIL_2", EXP_TAIL[2].to_bits()),
        ("EXP_TAIL_3", EXP_TAIL[3].to_bits()),
        ("EXP_TAIL_4", EXP_TAIL[4].to_bits()),
        ("EXP_TAIL_5", EXP_TAIL[5].to_bits()),
        ("EXP_TAIL_6", EXP_TAIL[6].to_bits()),
        ("EXP_TAIL_7", EXP_TAIL[7].to_bits()),
        ("NEAR_0", NEAR[0].to_bits()),
        ("NEAR_1", NEAR[1].to_bits()),
        ("NEAR_2", NEAR[2].to_bits()),
        ("NEAR_3", NEAR[3].to_bits()),
        ("NEAR_4", NEAR[4].to_bits()),
        ("FAR_0", FAR[0].to_bits()),
        ("FAR_1", FAR[1].to_bits()),
        ("FAR_2", FAR[2].to_bits()),
        ("FAR_3", FAR[3].to_bits()),
        ("FAR_4", FAR[4].to_bits()),
    ];

    /// An engine that plans under these limits, as far as the adapter has them; wgpu enforces them.
    pub fn engine_under(adapter: &Adapter, limits: Limits) -> Result<Engine, Error> {
        let gpu = pollster::block_on(Recovering::open(adapter, Some(limits)))?;
        Ok(nonblocking::Engine::on(gpu).into())
    }

    /// Rows for a device that is planned for under these limits.
    pub fn resident_under(
        device: &wgpu::Device,
        settings: resident::Settings,
        limits: Limits,
    ) -> Result<resident::Rows, Error> {
        resident::Rows::under(device, settings, limits)
    }

    /// An adapter on which every dispatch does nothing, without an error.
    pub fn idle_adapter() -> Option<Adapter> {
        crate::gpu::adapter::idle()
    }

    /// Does the device of an engine an injury. Nothing on an engine that has none.
    pub fn injure(engine: &Engine, injury: Injury) -> Result<(), Error> {
        let gpu = engine.nonblocking().gpu_backend();
        gpu.map_or(Ok(()), |gpu| pollster::block_on(gpu.injure(injury)))
    }

    /// An engine on the adapter that does without its f64 arithmetic.
    pub fn engine_without_f64(adapter: &Adapter) -> Result<Engine, Error> {
        let adapter = adapter.clone().without_f64();
        let gpu = pollster::block_on(Recovering::open(&adapter, None))?;
        Ok(nonblocking::Engine::on(gpu).into())
    }
}

//! Gradients of rows in the forms of [`form`](super::form): a row is settled as there, and gone through twice
//! more, from the cache. The slopes are written into their places while their means are summed, and the means
//! are subtracted there. What lacks digits in f32, and what has a bin without mass, is left to
//! [`gradient`](super::gradient).
//!
//! Slopes are 0 where p = q, and the masses are brought to the same: so they have both signs, and those of
//! probabilities are nowhere much smaller than what their mean is subtracted from.

use std::marker::PhantomData;

use super::form::{self, CHAIN, Form, TINY, WithForm, block, with_form};
use super::sums::LANES;
use crate::Divergence;
use crate::batch::Batch;
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::outcome::{Row, Status};
use crate::slope::Slope;
use crate::term::mul_add;
use crate::verdict::Verdict;

/// Whether there is a form for rows of a batch.
pub(super) fn takes<T: Element>(divergence: Divergence, batch: &Batch<'_, T>) -> bool {
    struct Nothing;
    impl WithForm for Nothing {
        type Output = ();

        fn with<F: Form>(self, _: f64) {}
    }
    with_form(divergence, batch, Nothing).is_some()
}

/// The results of a row, and its gradients, times a weight, into places that are empty where they are not
/// wanted. Nothing if f32 is not right for it, whatever is in the places then.
pub(super) fn row<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    row: usize,
    weight: f64,
    into: [&mut [f32]; 2],
) -> Option<Row<T::Value>> {
    let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
    let row = form::Row { divergence, batch, factor: 1.0, p: &p, q: &q };
    with_form(divergence, batch, Written { row, weight, into })?
}

/// A row whose gradients are written.
struct Written<'a, 'b, 'i, T> {
    row: form::Row<'a, 'b, T>,
    weight: f64,
    into: [&'i mut [f32]; 2],
}

impl<T: Element> WithForm for Written<'_, '_, '_, T> {
    type Output = Option<Row<T::Value>>;

    fn with<F: Form>(mut self, factor: f64) -> Self::Output {
        self.row.factor = factor;
        pulp::Arch::new().dispatch(Write { written: self, form: PhantomData::<F> })
    }
}

struct Write<'a, 'b, 'i, T, F> {
    written: Written<'a, 'b, 'i, T>,
    form: PhantomData<F>,
}

impl<T: Element, F: Form> pulp::WithSimd for Write<'_, '_, '_, T, F> {
    type Output = Option<Row<T::Value>>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        let written = self.written;
        if S::IS_SCALAR { written.all::<F, false>() } else { written.all::<F, true>() }
    }
}

impl<T: Element> Written<'_, '_, '_, T> {
    #[inline(always)]
    fn all<F: Form, const FUSED: bool>(self) -> Option<Row<T::Value>> {
        let Written { row, weight, into: [of_p, of_q] } = self;
        let settled = row.settled::<F, FUSED>()?;
        // Beside a large δ single differences have not the digits that their sum has.
        let has_digits = settled.is_full && settled.distance >= settled.delta.abs();
        let Verdict::Value(value) = settled.judged.verdict else { return None };
        let results = settled.judged.row::<T::Value>();
        if !has_digits || results.status != Status::Ok {
            return None;
        }
        let form::Row { divergence, p, q, .. } = row;
        let sums = match (!of_p.is_empty(), !of_q.is_empty()) {
            (true, true) => slopes::<T, F, FUSED, true, true>(p, q, settled.delta, of_p, of_q),
            (true, false) => slopes::<T, F, FUSED, true, false>(p, q, settled.delta, of_p, of_q),
            _ => slopes::<T, F, FUSED, false, true>(p, q, settled.delta, of_p, of_q),
        };
        let factor = weight * Slope::new(divergence).at(value, 1.0).factor_of_form();
        for ((into, sum), mass) in [of_p, of_q].into_iter().zip(sums).zip(settled.judged.masses) {
            let (by, mean) = ((factor / mass) as f32, (sum / mass) as f32);
            if !(by.is_finite() && mean.is_finite()) {
                return None;
            }
            into.iter_mut().for_each(|x| *x = by * (*x - mean));
        }
        Some(results)
    }
}

/// Writes the slopes of the sides that are wanted, and sums their products with what was given.
#[inline(always)]
fn slopes<T: Element, F: Form, const FUSED: bool, const OF_P: bool, const OF_Q: bool>(
    p: &[T],
    q: &[T],
    delta: f64,
    of_p: &mut [f32],
    of_q: &mut [f32],
) -> [f64; 2] {
    let [p_by, q_by, delta] = [1.0 - delta, 1.0 + delta, delta].map(|by| by as f32);
    let mut sums = [[0.0_f64; LANES]; 2];
    let mut first = 0;
    while first < p.len() {
        let mut chains = [[0.0_f32; LANES]; 2];
        for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
            let (p_block, q_block) = (block(p, at), block(q, at));
            let mut found = [[0.0_f32; LANES]; 2];
            for lane in 0..LANES {
                let (p, q) = (p_block[lane], q_block[lane]);
                let n = mul_add::<FUSED>(-delta, p + q, p - q);
                // Behind the last bin there is none, and no slope.
                let (p_there, q_there) = ((p * p_by).max(TINY), (q * q_by).max(TINY));
                let [u, v] = F::slopes::<FUSED>(p_there, q_there, n);
                [found[0][lane], found[1][lane]] = [u, v];
                chains[0][lane] = mul_add::<FUSED>(p, u, chains[0][lane]);
                chains[1][lane] = mul_add::<FUSED>(q, v, chains[1][lane]);
            }
            if OF_P {
                put(&found[0], of_p, at);
            }
            if OF_Q {
                put(&found[1], of_q, at);
            }
        }
        for (sums, chains) in sums.iter_mut().zip(&chains) {
            for lane in 0..LANES {
                sums[lane] += f64::from(chains[lane]);
            }
        }
        first += CHAIN * LANES;
    }
    sums.map(tree_sum)
}

#[inline(always)]
fn put(lanes: &form::Vector, into: &mut [f32], at: usize) {
    match into[at..].first_chunk_mut::<LANES>() {
        Some(whole) => *whole = *lanes,
        None => into[at..].iter_mut().zip(lanes).for_each(|(to, x)| *to = *x),
    }
}

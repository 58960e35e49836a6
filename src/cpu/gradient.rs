//! Values and gradients of rows on the CPU, of any divergence: in f64, from the bins as
//! [`bins`](super::bins) has them, but for rows that [`kl_gradient`](super::kl_gradient),
//! [`form_gradient`](super::form_gradient) or [`entropy_gradient`](super::entropy_gradient) make in f32.
//!
//! A row is gone through three times: for the masses, for the value with the means of the slopes, and
//! for what is written, the last two from a cache unless it is very long. With the slopes u and v of
//! [`Slope`], their means ū and v̄, and the mass P,
//!
//! ```text
//! logits          p·(u − ū) / T
//! log-probs       p·(u − ū)
//! probs           (u − ū) / P
//! ```
//!
//! and likewise for Q; where no mass is divided by, log-probs and probs have p·u and u.
//!
//! The gradient in a row that is repeated is a sum over rows, and is made in f64 in the order of a tree
//! that depends on the shape of the batch alone.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayViewMut1, ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::bins::{BLOCK, Look, Reading, Scale, Values, Window, windows};
use super::block::{Block, Space};
use super::entropies_of_logs::Entropies;
use super::entropy_gradient;
use super::family::{Family, Part, SEGMENT, Work, refusal, verdict, with_products};
use super::form_gradient::{self, Destination};
use super::in_f32::{self, Asked, Judge, Sides, Verdicts};
use super::kl_gradient::{self, AT_ONCE, Manner, Ready, Slopes};
use super::rows::{put_group, rows_per_task};
use super::short_logs;
use super::side_by_side::{self, Group, rows_together};
use super::sums::LANES;
use crate::batch::Batch;
use crate::element::{Element, Value};
use crate::error::Side;
use crate::gradient::Places;
use crate::integrand::{Bin, UNIT};
use crate::kind::Kind;
use crate::outcome::{Row, Slots, Status};
use crate::pairs::blocks;
use crate::slope::{Bins, Slope};
use crate::verdict::{Judged, Verdict};
use crate::{Divergence, Error, Outcome};

/// Up to so many bins, gradients of cross-entropy in Q, which are those of `kl`, take less time side by side.
const SHORT_CROSS_ENTROPY: usize = 16;

/// The least rows of a task that sums over rows: each task has a sum of its own.
const SUMMED: usize = 4;

/// Writes the gradients into their places.
pub(super) fn outcome<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    weights: Option<ArrayView1<'_, T::Value>>,
    places: Places<'_, T::Value>,
) -> Result<Outcome<T::Value>, Error> {
    if divergence.at_its_limit() == Divergence::ReverseKl {
        let places = places.swapped();
        return Ok(outcome(Divergence::Kl, &batch.swapped(), weights, places)?.swapped());
    }
    let mut outcome = Outcome::of(batch, "cpu")?;
    let mut gradients = Gradients::new(divergence, batch, weights, places);
    gradients.fill(outcome.slots(0..batch.rows()), 0, &|_| None);
    gradients.finish();
    Ok(outcome)
}

/// The gradients of a batch, of which rows are filled in one after the other.
pub(crate) struct Gradients<'a, 'b, 'p, T: Element> {
    job: Job<'a, 'b, T>,
    /// Those of each row.
    places: Places<'p, T::Value>,
    /// Those that are sums over rows, and the sums.
    summed: [Option<ArrayViewMut2<'p, T::Value>>; 2],
    sums: [Vec<f64>; 2],
}

/// What a device made of a row: its results, and its gradients in P and Q, times its weight, as far as
/// they are wanted.
pub(crate) struct Made<'a, V> {
    pub row: Row<V>,
    pub gradients: [&'a [f32]; 2],
}

/// Who knows which rows a device has made.
pub(crate) type ByDevice<'a, V> = dyn Fn(usize) -> Option<Made<'a, V>> + Sync + 'a;

impl<'a, 'b, 'p, T: Element> Gradients<'a, 'b, 'p, T> {
    pub(crate) fn new(
        divergence: Divergence,
        batch: &'a Batch<'b, T>,
        weights: Option<ArrayView1<'a, T::Value>>,
        mut places: Places<'p, T::Value>,
    ) -> Gradients<'a, 'b, 'p, T> {
        // The gradient in a row that all the others are compared with is none of theirs.
        let is_sum = |side| batch.repeats(side) && batch.rows() != 1;
        let summed = [Side::P, Side::Q].map(|side| places.take_if(side, is_sum(side)));
        let sums = summed.each_ref().map(|sum| vec![0.0; sum.iter().map(|sum| sum.len()).sum()]);
        let is_summed = summed.each_ref().map(Option::is_some);
        let job = Job::new(divergence, batch, weights, is_summed);
        Gradients { job, places, summed, sums }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn batch(&self) -> &'a Batch<'b, T> {
        self.job.batch
    }

    /// What the gradients of a row are to be multiplied by.
    #[cfg(feature = "gpu")]
    pub(crate) fn weight(&self, row: usize) -> f64 {
        self.job.weight(row)
    }

    /// Which of them are wanted.
    #[cfg(feature = "gpu")]
    pub(crate) fn wanted(&self) -> crate::Wanted {
        use crate::Wanted;
        match [0, 1].map(|side| self.places.0[side].is_some() || self.summed[side].is_some()) {
            [true, true] => Wanted::Both,
            [true, false] => Wanted::P,
            [false, _] => Wanted::Q,
        }
    }

    /// Fills in some rows: as a device made them, or else here. Each row once.
    pub(crate) fn fill(
        &mut self,
        slots: Slots<'_, T::Value>,
        first: usize,
        by_device: &ByDevice<'_, T::Value>,
    ) {
        let places = self.places.part(first..first + slots.values.len());
        let summed = self.job.in_tasks(Task { first, slots, places }, by_device);
        for (sums, more) in self.sums.iter_mut().zip(summed) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Writes the sums, once all rows are filled in.
    pub(crate) fn finish(self) {
        for (place, sums) in self.summed.into_iter().zip(self.sums) {
            if let Some(mut place) = place {
                place.iter_mut().zip(sums).for_each(|(to, sum)| *to = T::Value::from_f64(sum));
            }
        }
    }
}

/// What is the same for all rows.
struct Job<'a, 'b, T: Element> {
    batch: &'a Batch<'b, T>,
    weights: Option<ArrayView1<'a, T::Value>>,
    family: Family,
    slope: Slope,
    /// Which sides have the gradients of all rows summed.
    is_summed: [bool; 2],
    rows_per_task: usize,
    /// How ordinary rows are gone through in f32, if they are.
    in_f32: Option<InF32>,
    /// What makes the values and the gradients in P, of cross-entropy and entropy. In Q the gradient of the first is
    /// that of `kl`: the entropy of P, by which they differ, is a constant.
    entropies: Option<(Entropies, Judge)>,
}

/// What rows in f32 take memory for.
#[derive(Default)]
struct Memory {
    kl: kl_gradient::Space,
    form: in_f32::Space,
    /// For gradients that cannot be written into their places at once.
    places: [Vec<f32>; 2],
    group: side_by_side::Space,
    short_logs: short_logs::GradientSpace,
    /// The gradients of a group.
    lanes: [Vec<f32>; 2],
}

impl Memory {
    /// Makes room for the gradients of a group, of the sides that are wanted.
    fn make_lanes(&mut self, bins: usize, wanted: [bool; 2]) {
        for (lanes, is_wanted) in self.lanes.iter_mut().zip(wanted) {
            lanes.resize(if is_wanted { bins * LANES } else { 0 }, 0.0);
        }
    }

    /// Puts the gradients of those rows of a group into their places, and says so, if these are of f32 and next to
    /// each other.
    fn put_lanes<V: Value>(&self, are_made: &[bool; LANES], places: Places<'_, V>) -> bool {
        let wanted = self.lanes.each_ref().map(|lanes| !lanes.is_empty());
        let Some(flat) = flat(places, wanted) else { return false };
        for (place, lanes) in flat.into_iter().zip(&self.lanes) {
            let lanes = lanes.as_chunks::<LANES>().0;
            for (lane, row) in place.chunks_exact_mut(lanes.len().max(1)).enumerate() {
                if are_made[lane] {
                    row.iter_mut().zip(lanes).for_each(|(to, lanes)| *to = lanes[lane]);
                }
            }
        }
        true
    }

    /// Puts the gradients of a row of a group into their places.
    fn put_lane(&mut self, lane: usize, into: &mut [Target<'_, impl Value>; 2]) {
        for ((into, lanes), space) in into.iter_mut().zip(&self.lanes).zip(&mut self.places) {
            let lanes = lanes.as_chunks::<LANES>().0;
            let place = into.in_f32(lanes.len(), space);
            place.iter_mut().zip(lanes).for_each(|(to, lanes)| *to = lanes[lane]);
            into.put_space(space);
        }
    }
}

/// The places of rows, if those of the sides that are wanted are of f32 and next to each other; empty where they are not.
fn flat<V: Value>(places: Places<'_, V>, wanted: [bool; 2]) -> Option<[&mut [f32]; 2]> {
    let flat = places.0.map(|place| {
        let side = place.and_then(ArrayViewMut2::into_slice);
        side.and_then(|side| bytemuck::try_cast_slice_mut::<V, f32>(side).ok())
    });
    let lacks = (0..2).any(|side| flat[side].is_none() && wanted[side]);
    (!lacks).then(|| flat.map(Option::unwrap_or_default))
}

/// What was made of some rows together.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and memory for it takes time"
)]
enum MadeTogether {
    Ready(Ready),
    Lanes(MadeLanes),
}

impl MadeTogether {
    /// The values and the masses of the first rows, if each has an ordinary value and its gradients.
    fn all(&self, rows: usize) -> Option<(&[f64; LANES], [&[f64; LANES]; 2])> {
        match self {
            MadeTogether::Ready(ready) => {
                ready.has_all(rows).then_some((&ready.values, ready.masses.each_ref()))
            }
            MadeTogether::Lanes(made) => {
                made.have_all(rows).then_some((&made.verdicts.values, made.masses.each_ref()))
            }
        }
    }

    /// The results of one whose gradients are made.
    fn row<V: Value>(&self, lane: usize) -> Option<Row<V>> {
        match self {
            MadeTogether::Ready(ready) if ready.has(lane) => Some(ready.row(lane)?.0),
            MadeTogether::Ready(_) => None,
            MadeTogether::Lanes(made) => made.row(lane).filter(|row| row.1).map(|row| row.0),
        }
    }
}

/// What was made of the rows of a group.
struct MadeLanes {
    verdicts: Verdicts,
    masses: [[f64; LANES]; 2],
    /// Whether the gradients that are wanted are made.
    are_made: [bool; LANES],
}

impl MadeLanes {
    /// Whether each of the first rows has an ordinary value and its gradients.
    fn have_all(&self, rows: usize) -> bool {
        let MadeLanes { verdicts: Verdicts { values, .. }, are_made, .. } = self;
        let mut have_all = true;
        for lane in 0..LANES {
            // Of an infinite value and of what f32 has no room for there is more to say.
            let has_room = values[lane].abs() <= f32::MAX.into();
            have_all &= (are_made[lane] & has_room) | (lane >= rows);
        }
        have_all
    }

    /// The results of one, if f32 is right for it, and whether its gradients are made.
    fn row<V: Value>(&self, lane: usize) -> Option<(Row<V>, bool)> {
        let MadeLanes { verdicts: Verdicts { values, are_right }, masses, are_made } = self;
        let (verdict, masses) = (Asked::verdict(values[lane]), masses.map(|side| side[lane]));
        are_right[lane].then(|| (Judged { verdict, masses }.row(), are_made[lane]))
    }
}

/// What is so in both.
fn and(are: &mut [bool; LANES], others: &[bool; LANES]) {
    are.iter_mut().zip(others).for_each(|(is, other)| *is &= other);
}

/// What makes gradients in f32.
#[derive(Clone, Copy)]
enum InF32 {
    Kl(Manner),
    Form(Divergence),
    /// Of a divergence that does not depend on Q, in that.
    Zero,
}

impl InF32 {
    fn of<T: Element>(divergence: Divergence, batch: &Batch<'_, T>) -> Option<InF32> {
        let manner = if divergence == Divergence::Kl { Manner::of(batch) } else { None };
        let has_form = || form_gradient::takes(divergence, batch);
        manner.map(InF32::Kl).or_else(|| has_form().then_some(InF32::Form(divergence)))
    }
}

/// Some rows, and where their results go.
struct Task<'s, 'a, V> {
    first: usize,
    slots: Slots<'s, V>,
    places: Places<'a, V>,
}

impl<'s, 'a, V: Value> Task<'s, 'a, V> {
    fn split_at(self, row: usize) -> (Task<'s, 'a, V>, Task<'s, 'a, V>) {
        let (slots, later_slots) = self.slots.split_at(row);
        let (places, later_places) = self.places.split_at(row);
        let later = Task { first: self.first + row, slots: later_slots, places: later_places };
        (Task { slots, places, ..self }, later)
    }
}

impl<'a, 'b, T: Element> Job<'a, 'b, T> {
    fn new(
        divergence: Divergence,
        batch: &'a Batch<'b, T>,
        weights: Option<ArrayView1<'a, T::Value>>,
        is_summed: [bool; 2],
    ) -> Job<'a, 'b, T> {
        let slope = Slope::new(divergence);
        let family = Family::with_slope(divergence, slope, Reading::of(batch));
        let least = if is_summed.contains(&true) { SUMMED } else { 1 };
        let rows_per_task = rows_per_task(batch.bins()).max(least);
        let judge = || Judge::of(divergence).filter(|_| in_f32::takes(batch));
        let (in_f32, entropies) = match divergence.at_its_limit() {
            Divergence::CrossEntropy => {
                let judge = judge().map(|judge| (Entropies::Cross, judge));
                (InF32::of(Divergence::Kl, batch), judge)
            }
            Divergence::Entropy => {
                let judge = judge().map(|judge| (Entropies::Own, judge));
                (judge.map(|_| InF32::Zero), judge)
            }
            other => (InF32::of(other, batch), None),
        };
        Job { batch, weights, family, slope, is_summed, rows_per_task, in_f32, entropies }
    }

    /// Finishes some rows, over the threads there are. Returns the sums of both sides, of which one
    /// that is not summed is empty.
    fn in_tasks(
        &self,
        task: Task<'_, '_, T::Value>,
        by_device: &ByDevice<'_, T::Value>,
    ) -> [Vec<f64>; 2] {
        let tasks = task.slots.values.len().div_ceil(self.rows_per_task);
        if tasks <= 1 {
            return self.rows(task, by_device);
        }
        let (one, other) = task.split_at(tasks / 2 * self.rows_per_task);
        let (mut sums, later) =
            rayon::join(|| self.in_tasks(one, by_device), || self.in_tasks(other, by_device));
        for (sum, later) in sums.iter_mut().flatten().zip(later.iter().flatten()) {
            *sum += later;
        }
        sums
    }

    fn rows(
        &self,
        task: Task<'_, '_, T::Value>,
        by_device: &ByDevice<'_, T::Value>,
    ) -> [Vec<f64>; 2] {
        let Task { first, mut slots, mut places } = task;
        let mut sums = self.is_summed.map(|is| vec![0.0; if is { self.batch.bins() } else { 0 }]);
        let (mut work, mut memory) = (Work::new(&self.family), Memory::default());
        let wanted = [0, 1].map(|side| places.0[side].is_some() || self.is_summed[side]);
        let summed_together = match (self.in_f32, self.entropies) {
            (Some(InF32::Kl(manner)), None) => manner.sums_together(self.batch),
            _ => false,
        };
        let together = if summed_together { LANES } else { rows_together(self.batch.bins()) };
        let count = slots.values.len();
        let mut from_device = Vec::new();
        for block in blocks(0..count, together) {
            let rows = first + block.start..first + block.end;
            from_device.clear();
            from_device.extend(rows.clone().map(by_device));
            // Some rows that a device made do not change how the others are made.
            let is_here = together > 1 && from_device.iter().any(Option::is_none);
            let made = match is_here {
                true => self.made_together(rows.clone(), wanted, summed_together, &mut memory),
                false => None,
            };
            let are_put = from_device.iter().all(Option::is_none)
                && made.as_ref().is_some_and(|made| {
                    self.put_together(made, rows, places.part(block.clone()), &mut memory)
                });
            let put = made.as_ref().filter(|_| are_put);
            if let Some((values, masses)) = put.and_then(|put| put.all(block.len())) {
                put_group(&mut slots, block, values, masses);
                continue;
            }
            for (lane, at) in block.enumerate() {
                if let Some(results) = put.and_then(|put| put.row(lane)) {
                    slots.put(at, results);
                    continue;
                }
                let [p, q] = places.row(at);
                let [p_sum, q_sum] = &mut sums;
                let mut into = [
                    Target::of(p, self.is_summed[0].then_some(p_sum)),
                    Target::of(q, self.is_summed[1].then_some(q_sum)),
                ];
                let results = match from_device[lane].take() {
                    Some(made) => {
                        let gradients = into.iter_mut().zip(made.gradients);
                        gradients.for_each(|(into, made)| into.put_space(made));
                        made.row
                    }
                    None => {
                        let made = made.as_ref().map(|made| (made, lane));
                        self.row_by_itself(first + at, made, &mut work, &mut memory, into)
                    }
                };
                slots.put(at, results);
            }
        }
        sums
    }

    /// What is made of some rows together, if anything is.
    fn made_together(
        &self,
        rows: Range<usize>,
        wanted: [bool; 2],
        summed_together: bool,
        memory: &mut Memory,
    ) -> Option<MadeTogether> {
        if !summed_together {
            return self.group_in_f32(rows, wanted, memory).map(MadeTogether::Lanes);
        }
        let weights = self.weights_of(rows.clone());
        let ready = Ready::together(self.batch, rows, weights, wanted[0], &mut memory.kl);
        Some(MadeTogether::Ready(ready))
    }

    /// The results of a row, and its gradients, by what was made of it beside others, if anything was.
    fn row_by_itself(
        &self,
        row: usize,
        made: Option<(&MadeTogether, usize)>,
        work: &mut Work,
        memory: &mut Memory,
        mut into: [Target<'_, T::Value>; 2],
    ) -> Row<T::Value> {
        match made {
            Some((MadeTogether::Ready(ready), lane)) => {
                self.row_in_any(row, ready.row(lane), work, memory, into)
            }
            Some((MadeTogether::Lanes(made), lane))
                if let Some((results, is_made)) = made.row(lane) =>
            {
                // A value of a group is right whatever makes the gradient.
                if is_made {
                    memory.put_lane(lane, &mut into);
                } else {
                    self.row_in_any(row, None, work, memory, into);
                }
                results
            }
            _ => self.row_in_any(row, None, work, memory, into),
        }
    }

    /// Puts those gradients into their places that were made together, and anything where they were not, and says so, if
    /// the places are of f32 and next to each other.
    fn put_together(
        &self,
        made: &MadeTogether,
        rows: Range<usize>,
        places: Places<'_, T::Value>,
        memory: &mut Memory,
    ) -> bool {
        match made {
            MadeTogether::Ready(ready) => self.put_ready(ready, rows, places, memory),
            MadeTogether::Lanes(made) => memory.put_lanes(&made.are_made, places),
        }
    }

    /// Writes the gradients of those of some short rows that are ready, and anything for the others, and says so, if their
    /// places are of f32 and next to each other.
    fn put_ready(
        &self,
        ready: &Ready,
        rows: Range<usize>,
        places: Places<'_, T::Value>,
        memory: &mut Memory,
    ) -> bool {
        let batch = self.batch;
        if batch.bins() > AT_ONCE || self.is_summed.contains(&true) {
            return false;
        }
        let wanted = places.0.each_ref().map(Option::is_some);
        let Some(into) = flat(places, wanted) else { return false };
        ready.write_all(batch, rows, &mut memory.kl, into);
        true
    }

    /// The results of a row, and its gradients, in f32 as far as that is right for it.
    fn row_in_any(
        &self,
        row: usize,
        ready: Option<(Row<T::Value>, Slopes)>,
        work: &mut Work,
        memory: &mut Memory,
        mut into: [Target<'_, T::Value>; 2],
    ) -> Row<T::Value> {
        let Some((results, are_made)) = self.row_in_f32(row, ready, memory, &mut into) else {
            return self.row_in_f64(row, work, into).row();
        };
        for (into, is_made) in into.iter_mut().zip(are_made) {
            *into = if is_made { Target::Nowhere } else { std::mem::take(into) };
        }
        if into.iter().any(|into| !matches!(into, Target::Nowhere)) {
            self.row_in_f64(row, work, into);
        }
        results
    }

    /// Some rows that f32 is right for side by side. Their gradients are in the memory then.
    fn group_in_f32(
        &self,
        rows: Range<usize>,
        wanted: [bool; 2],
        memory: &mut Memory,
    ) -> Option<MadeLanes> {
        if let (InF32::Kl(Manner::Logs), None) = (self.in_f32?, self.entropies)
            && self.batch.bins() <= short_logs::LONGEST
        {
            return Some(self.group_of_logs(rows, wanted, memory));
        }
        let (divergence, longest) = match self.in_f32? {
            InF32::Kl(_) => (Some(Divergence::Kl), SHORT_CROSS_ENTROPY),
            InF32::Form(divergence) => (Some(divergence), usize::MAX),
            InF32::Zero => (None, usize::MAX),
        };
        if self.batch.bins() > longest {
            return None;
        }
        let (weights, batch) = (self.weights_of(rows.clone()), self.batch);
        memory.make_lanes(batch.bins(), wanted);
        let Memory { group: space, lanes, .. } = memory;
        let group = Group::of(batch, rows, space, true);
        let ([of_p, of_q], temperature) = (lanes.each_mut(), batch.temperature());
        let (verdicts, are_made) = match self.entropies {
            None => {
                let places = [&mut of_p[..], &mut of_q[..]];
                let into = form_gradient::Lanes { weights, temperature, places };
                form_gradient::side_by_side(divergence?, &group, into)
            }
            Some((which, judge)) => {
                let verdicts = judge.judged_side_by_side(&group);
                // Rows that do not count have zeros, which are written elsewhere.
                let mut are_made = weights.map(|weight| weight != 0.0);
                and(&mut are_made, &verdicts.are_right);
                and(&mut are_made, &group.are_plain);
                match divergence {
                    _ if of_q.is_empty() => {}
                    None => of_q.fill(0.0),
                    Some(divergence) => {
                        let places = [&mut [][..], &mut of_q[..]];
                        let into = form_gradient::Lanes { weights, temperature, places };
                        let (_, by_kl) = form_gradient::side_by_side(divergence, &group, into);
                        and(&mut are_made, &by_kl);
                    }
                }
                if !of_p.is_empty() {
                    let (value, weight) = (verdicts.values, weights);
                    let given = entropy_gradient::Given { value, weight, temperature };
                    entropy_gradient::side_by_side(which, &group, given, of_p, &mut are_made);
                }
                (verdicts, are_made)
            }
        };
        Some(MadeLanes { verdicts, masses: group.masses, are_made })
    }

    /// The same of `kl` where both sides are logarithms.
    fn group_of_logs(
        &self,
        rows: Range<usize>,
        wanted: [bool; 2],
        memory: &mut Memory,
    ) -> MadeLanes {
        let weights = self.weights_of(rows.clone());
        memory.make_lanes(self.batch.bins(), wanted);
        let Memory { short_logs: space, lanes, .. } = memory;
        let into = lanes.each_mut().map(|side| &mut side[..]);
        let (settled, are_made) =
            short_logs::with_gradients(self.batch, rows, weights, space, into);
        let short_logs::Settled { values, masses } = settled;
        let are_right = values.map(|value| value >= 0.0);
        MadeLanes { verdicts: Verdicts { values, are_right }, masses, are_made }
    }

    /// Those of a group.
    fn weights_of(&self, rows: Range<usize>) -> [f64; LANES] {
        let mut weights = [0.0; LANES];
        weights.iter_mut().zip(rows).for_each(|(to, row)| *to = self.weight(row));
        weights
    }

    fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[row].to_f64())
    }

    /// The verdict on a row, and its gradients.
    fn row_in_f64(&self, row: usize, work: &mut Work, into: [Target<'_, T::Value>; 2]) -> Judged {
        let look = work.sum(&self.family, self.batch, row);
        let judged = self.judged(row, &look, work);
        self.row(row, &look, judged.verdict, work, into);
        judged
    }

    /// The results of a row that f32 is right for, and whether the gradients of P and Q are made. They go by way
    /// of some space where they cannot be written into their places at once.
    fn row_in_f32(
        &self,
        row: usize,
        ready: Option<(Row<T::Value>, Slopes)>,
        memory: &mut Memory,
        into: &mut [Target<'_, T::Value>; 2],
    ) -> Option<(Row<T::Value>, [bool; 2])> {
        let Memory { kl: kl_space, form: form_space, places: space, .. } = memory;
        let (in_f32, weight, bins) = (self.in_f32?, self.weight(row), self.batch.bins());
        let ([p, q], [p_space, q_space]) = (into.each_mut(), space.each_mut());
        let places = match weight {
            // Of a row that does not count only the value is made.
            0.0 => [&mut [][..], &mut []],
            _ => [p.in_f32(bins, p_space), q.in_f32(bins, q_space)],
        };
        let (results, are_made) = match (self.entropies, in_f32) {
            (Some(entropies), _) => {
                let into = Destination { weight, temperature: self.batch.temperature(), places };
                self.entropies_in_f32(entropies, row, kl_space, form_space, into)?
            }
            (None, InF32::Kl(manner)) => {
                let results = match ready {
                    Some((results, slopes)) => {
                        slopes.write(self.batch, row, kl_space, places);
                        results
                    }
                    None => manner.row(self.batch, row, weight, kl_space, places)?,
                };
                (results, [true; 2])
            }
            (None, InF32::Form(divergence)) => {
                let into = Destination { weight, temperature: self.batch.temperature(), places };
                self.with_sides(row, form_space, true, |sides| {
                    let (judged, are_made) = form_gradient::row(divergence, sides, into)?;
                    Some((judged.row(), are_made))
                })?
            }
            (None, InF32::Zero) => return None,
        };
        if weight == 0.0 {
            into.iter_mut().for_each(|into| into.fill(0.0));
            return Some((results, [true; 2]));
        }
        for (side, (into, space)) in into.iter_mut().zip(space).enumerate() {
            if are_made[side] {
                into.put_space(space);
            }
        }
        Some((results, are_made))
    }

    /// The same of cross-entropy and entropy.
    fn entropies_in_f32(
        &self,
        (which, judge): (Entropies, Judge),
        row: usize,
        kl_space: &mut kl_gradient::Space,
        space: &mut in_f32::Space,
        Destination { weight, temperature, places: [of_p, of_q] }: Destination<'_>,
    ) -> Option<(Row<T::Value>, [bool; 2])> {
        let mut has_q = of_q.is_empty();
        match self.in_f32? {
            InF32::Kl(manner) if !has_q => {
                manner.row(self.batch, row, weight, kl_space, [&mut [], &mut *of_q])?;
                has_q = true;
            }
            InF32::Zero => {
                of_q.fill(0.0);
                has_q = true;
            }
            _ => {}
        }
        self.with_sides(row, space, !has_q, |sides| {
            let judged = judge.judged(sides)?;
            if judged.row::<f32>().status != Status::Ok {
                return None;
            }
            if !has_q {
                let into = Destination { weight, temperature, places: [&mut [], &mut *of_q] };
                has_q = form_gradient::row(Divergence::Kl, sides, into)?.1[1];
            }
            let Verdict::Value(value) = judged.verdict else { return None };
            let given = entropy_gradient::Given { value, weight, temperature };
            let has_p = of_p.is_empty() || entropy_gradient::row(which, sides, given, of_p);
            Some((judged.row(), [has_p, has_q]))
        })
    }

    /// Does something with the probabilities of a row in f32, if it has them.
    fn with_sides<R>(
        &self,
        row: usize,
        space: &mut in_f32::Space,
        needs_differences: bool,
        what: impl FnOnce(Sides<'_>) -> Option<R>,
    ) -> Option<R> {
        let (p, q) = (self.batch.packed(Side::P, row), self.batch.packed(Side::Q, row));
        what(Sides::of(self.batch, [&p, &q], space, false, needs_differences)?)
    }

    fn judged(&self, row: usize, look: &Look, work: &Work) -> Judged {
        let Job { batch, family, .. } = self;
        let masses = look.masses(&family.reading);
        refusal(batch, row, look, masses).unwrap_or_else(|| Judged {
            verdict: verdict(family, 0, &work.sums, batch, row, look),
            masses,
        })
    }

    /// Writes the gradients of a row that was summed.
    fn row(
        &self,
        row: usize,
        look: &Look,
        verdict: Verdict,
        work: &mut Work,
        mut into: [Target<'_, T::Value>; 2],
    ) {
        let weight = self.weight(row);
        let value = match verdict {
            _ if weight == 0.0 => return into.iter_mut().for_each(|into| into.fill(0.0)),
            Verdict::Value(value) if T::Value::from_f64(value).to_f64().is_finite() => value,
            _ => return into.iter_mut().for_each(|into| into.fill(f64::NAN)),
        };
        let mut slope = self.slope.at(value, 1.0);
        let (reading, bins) = (self.family.reading.with(slope.needs()), self.batch.bins());
        let scale = Scale::new(reading, look, self.batch, row);
        let whole = Part { numbers: self.batch, row, bins: 0..bins };
        if slope.counts_tops() {
            let space = &mut work.space;
            let tops = Tops { slope, scale: &scale, row: &whole, space }.dispatch();
            slope = slope.at(value, tops);
        }
        let (factor, constants) = (slope.factor(), slope.constants(self.batch.mass()));
        let means = slope.means(work.sums.means(&reading, &self.slope));
        let lines = [0, 1].map(|side| Line {
            kind: reading.kinds[side],
            by: weight * scale.per_number(side),
            factor,
            shift: match reading.divides([Side::P, Side::Q][side]) {
                true => factor * means[side],
                false => -constants[side],
            },
        });
        let written = Written { slope, scale: &scale, lines, weights: self.batch.bin_weights() };
        let sure = [0, 1].map(|side| look.is_sure(&reading, side));
        if !sure.contains(&true) {
            return self.write(written, whole, work, into);
        }
        // Derivatives in logarithms come to nothing together. Where one bin has nearly all of a side, its own
        // is a difference that rounding is most of, and that of the others is not.
        let mut made = into.each_ref().map(|into| vec![0.0; into.len(bins)]);
        let [p, q] = made.each_mut().map(|made| Target::of(None, Some(made)));
        self.write(written, whole, work, [p, q]);
        for side in 0..2 {
            if sure[side] && !made[side].is_empty() {
                let top = scale.top_bin(self.batch, side, row);
                made[side][top] = 0.0;
                made[side][top] = -made[side].iter().sum::<f64>();
            }
            into[side].put(0, &made[side]);
        }
    }

    /// Writes what is to be written of a row into its places.
    fn write(
        &self,
        written: Written<'_>,
        whole: Part<'_>,
        work: &mut Work,
        mut into: [Target<'_, T::Value>; 2],
    ) {
        let (row, bins) = (whole.row, self.batch.bins());
        if bins <= SEGMENT {
            let ([p, q], space) = (into.each_mut(), &mut work.space);
            return Walk { written, part: whole, into: [p, q], space }.dispatch();
        }
        let [p, q] = into.map(|into| into.in_segments(bins));
        let segments = (0..bins).step_by(SEGMENT).zip(p.into_iter().zip(q));
        let segments: Vec<_> = segments.collect();
        segments.into_par_iter().for_each(|(first, (mut p, mut q))| {
            let bins = first..(first + SEGMENT).min(bins);
            let part = Part { numbers: self.batch, row, bins };
            let space = &mut Space::new();
            Walk { written, part, into: [&mut p, &mut q], space }.dispatch();
        });
    }
}

/// How many bins of a row share the largest ratio, for the one slope that asks.
struct Tops<'a> {
    slope: Slope,
    scale: &'a Scale,
    row: &'a Part<'a>,
    space: &'a mut Space,
}

impl Tops<'_> {
    #[inline(never)]
    fn dispatch(self) -> f64 {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Tops<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        // Ratios have the bits of the largest only if they are made in the same way.
        if S::IS_SCALAR { self.count::<false>() } else { self.count::<true>() }
    }
}

impl Tops<'_> {
    #[inline(always)]
    fn count<const FUSED: bool>(self) -> f64 {
        let Tops { slope, scale, row: Part { numbers, row, bins }, space } = self;
        let (mut tops, mut products) = (0.0, [[0.0; BLOCK]; 2]);
        for bins in windows(bins.clone()) {
            let (block, _) = space.block::<FUSED>(*numbers, scale, *row, bins);
            with_products(slope, Products { block, into: &mut products });
            tops += products[0][..block.len()].iter().sum::<f64>() / UNIT;
        }
        tops
    }
}

/// How the products of a side become derivatives in what was given.
#[derive(Clone, Copy)]
struct Line {
    kind: Kind,
    by: f64,
    factor: f64,
    shift: f64,
}

impl Line {
    /// From the products of some bins and their probabilities, both in units.
    #[inline(always)]
    fn derivatives(&self, products: &Values, own: &[f64], into: &mut Values) {
        let Line { kind, by, factor, shift } = *self;
        let per_unit = by / UNIT;
        let (products, into) = (&products[..own.len()], &mut into[..own.len()]);
        for bin in 0..own.len() {
            let (product, p) = (products[bin], own[bin]);
            into[bin] = match kind {
                Kind::Probs => by * (factor * product / p - shift),
                Kind::LogProbs | Kind::Logits => per_unit * (factor * product - p * shift),
            };
        }
    }

    /// From a slope itself and the probability, where one of the two is 0.
    fn derivative(&self, slope: f64, p: Option<f64>) -> f64 {
        let Line { kind, by, factor, shift } = *self;
        // An infinite one too, where that is the middle of the slopes.
        let slope = if factor == 0.0 { 0.0 } else { factor * slope };
        match (kind, p) {
            (Kind::Probs, _) => by * (slope - shift),
            (_, Some(p)) if p > 0.0 => by * p / UNIT * (slope - shift),
            // There is none, or it is too small for a number: times a logarithm it is nothing.
            (_, _) => 0.0,
        }
    }
}

/// Where a row's gradient in one side goes.
#[derive(Default)]
enum Target<'a, V> {
    #[default]
    Nowhere,
    Row(ArrayViewMut1<'a, V>),
    /// To others'.
    Sum(&'a mut [f64]),
}

impl<'a, V: Value> Target<'a, V> {
    fn of(row: Option<ArrayViewMut1<'a, V>>, sum: Option<&'a mut Vec<f64>>) -> Target<'a, V> {
        match (row, sum) {
            (Some(row), _) => Target::Row(row),
            (None, Some(sum)) if !sum.is_empty() => Target::Sum(sum),
            (None, _) => Target::Nowhere,
        }
    }

    /// How many of so many derivatives it takes.
    fn len(&self, bins: usize) -> usize {
        if matches!(self, Target::Nowhere) { 0 } else { bins }
    }

    /// The same for parts of a row.
    fn in_segments(self, bins: usize) -> Vec<Target<'a, V>> {
        match self {
            Target::Nowhere => (0..bins).step_by(SEGMENT).map(|_| Target::Nowhere).collect(),
            Target::Sum(sum) => sum.chunks_mut(SEGMENT).map(Target::Sum).collect(),
            Target::Row(row) => {
                let (mut rest, mut parts) = (row, Vec::new());
                while rest.len() > SEGMENT {
                    let (part, later) = rest.split_at(Axis(0), SEGMENT);
                    parts.push(Target::Row(part));
                    rest = later;
                }
                parts.push(Target::Row(rest));
                parts
            }
        }
    }

    /// The place itself if it is one of f32, side by side, else a space instead; empty if there is none.
    fn in_f32<'s>(&'s mut self, bins: usize, space: &'s mut Vec<f32>) -> &'s mut [f32] {
        let len = self.len(bins);
        if let Target::Row(row) = self
            && let Some(Ok(row)) = row.as_slice_mut().map(bytemuck::try_cast_slice_mut)
        {
            return row;
        }
        space.resize(len, 0.0);
        space
    }

    /// Puts what is in that space, or was made elsewhere, where it belongs.
    fn put_space(&mut self, space: &[f32]) {
        match self {
            Target::Row(row) => {
                row.iter_mut().zip(space).for_each(|(to, &x)| *to = V::from_f64(x.into()));
            }
            Target::Sum(sum) => {
                sum.iter_mut().zip(space).for_each(|(sum, &x)| *sum += f64::from(x))
            }
            _ => {}
        }
    }

    fn fill(&mut self, derivative: f64) {
        match self {
            Target::Nowhere => {}
            Target::Row(row) => row.fill(V::from_f64(derivative)),
            Target::Sum(sum) => sum.iter_mut().for_each(|sum| *sum += derivative),
        }
    }
}

/// A target of whatever type.
trait Put {
    /// Puts some derivatives into their places.
    fn put(&mut self, first: usize, derivatives: &[f64]);
}

impl<V: Value> Put for Target<'_, V> {
    fn put(&mut self, first: usize, derivatives: &[f64]) {
        match self {
            Target::Nowhere => {}
            Target::Row(row) => match row.as_slice_mut() {
                Some(row) => {
                    let row = &mut row[first..first + derivatives.len()];
                    row.iter_mut().zip(derivatives).for_each(|(to, &x)| *to = V::from_f64(x));
                }
                None => {
                    let row = row.iter_mut().skip(first);
                    row.zip(derivatives).for_each(|(to, &x)| *to = V::from_f64(x));
                }
            },
            Target::Sum(sum) => {
                let sum = &mut sum[first..first + derivatives.len()];
                sum.iter_mut().zip(derivatives).for_each(|(sum, x)| *sum += x);
            }
        }
    }
}

/// What is to be written of a row.
#[derive(Clone, Copy)]
struct Written<'a> {
    slope: Slope,
    scale: &'a Scale,
    lines: [Line; 2],
    /// Those of the bins, if they have any.
    weights: Option<&'a [f64]>,
}

/// The walk over some bins that writes it.
struct Walk<'s> {
    written: Written<'s>,
    part: Part<'s>,
    into: [&'s mut dyn Put; 2],
    space: &'s mut Space,
}

impl Walk<'_> {
    #[inline(never)]
    fn dispatch(self) {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Walk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.write::<false>() } else { self.write::<true>() }
    }
}

impl Walk<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(self) {
        let Walk { written, part: Part { numbers, row, bins }, mut into, space } = self;
        let Written { slope, scale, lines, weights } = written;
        let start = bins.start;
        let mut products = [[0.0; BLOCK]; 2];
        let mut derivatives = products;
        for bins in windows(bins) {
            let (block, window) = space.block::<FUSED>(numbers, scale, row, bins.clone());
            with_products(slope, Products { block, into: &mut products });
            for side in 0..2 {
                let own = block.probabilities(side);
                lines[side].derivatives(&products[side], own, &mut derivatives[side]);
            }
            if block.has_ends() {
                written.put_ends(block, window, &mut derivatives);
            }
            if let Some(weights) = weights {
                written.weigh(&weights[bins.clone()], &mut derivatives);
            }
            for (into, derivatives) in into.iter_mut().zip(&derivatives) {
                into.put(bins.start - start, &derivatives[..bins.len()]);
            }
        }
    }
}

impl Written<'_> {
    /// A probability was multiplied by its weight, and so is its derivative; a logarithm had one added, which
    /// changes none. What is left out has 0, whatever stands in it.
    #[cold]
    #[inline(never)]
    fn weigh(&self, weights: &[f64], derivatives: &mut [Values; 2]) {
        for (line, derivatives) in self.lines.iter().zip(derivatives) {
            if line.kind == Kind::Probs {
                for (derivative, &weight) in derivatives.iter_mut().zip(weights) {
                    *derivative = if weight == 0.0 { 0.0 } else { *derivative * weight };
                }
            }
        }
    }

    /// The derivatives in bins in which one of the two probabilities is 0, or both are.
    #[cold]
    #[inline(never)]
    fn put_ends(&self, block: &Block, window: &Window, derivatives: &mut [Values; 2]) {
        let Written { slope, scale, lines, .. } = self;
        let both = &block.both()[..window.bins().len()];
        let logs = [0, 1].map(|side| scale.logs_of_probs(side));
        for (bin, _) in both.iter().enumerate().filter(|&(_, &both)| both == 0.0) {
            let own = [0, 1].map(|side| scale.probability(window, side, bin));
            let ln = scale.ln_probabilities(window, &logs, bin);
            let (toward_p, toward_q) = (f64::INFINITY, f64::NEG_INFINITY);
            let slopes = match own {
                [Some(_), _] => slope.at_end(ln, toward_p),
                [None, Some(_)] => slope.at_end(ln, toward_q),
                // One of them grows from 0, and the other is still there.
                [None, None] => [slope.at_end(ln, toward_p)[0], slope.at_end(ln, toward_q)[1]],
            };
            for side in 0..2 {
                derivatives[side][bin] = lines[side].derivative(slopes[side], own[side]);
            }
        }
    }
}

/// A slope's products in the bins of a block, and whatever in those in which a probability is 0. A
/// function of its own, whose loops are better for it.
struct Products<'a> {
    block: &'a Block,
    into: &'a mut [Values; 2],
}

impl Bins for Products<'_> {
    #[inline(always)]
    fn each(self, products: impl Fn(Bin) -> [f64; 2]) {
        let Products { block, into: [of_p, of_q] } = self;
        let (bins, len) = (block.bins(), block.len());
        let [of_p, of_q] = [of_p, of_q].map(|values| &mut values[..len]);
        for bin in 0..len {
            [of_p[bin], of_q[bin]] = products(bins.at(bin));
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Slice, array};

    use super::*;
    use crate::batch::Mass;
    use crate::cpu::tests::noise;
    use crate::{Engine, OnInvalid, Wanted};

    /// The results of the first row, if f32 makes both gradients.
    fn made(job: &Job<'_, '_, f32>, into: &mut [Target<'_, f32>; 2]) -> Option<Row<f32>> {
        let (row, are_made) = job.row_in_f32(0, None, &mut Memory::default(), into)?;
        (are_made == [true; 2]).then_some(row)
    }

    /// Rows of f32 that are not near each other.
    fn side(kind: Kind, bins: usize, step: usize) -> Array2<f32> {
        let spread = |bin: usize| 0.5 + ((bin * step) % 1013) as f64 / 1013.0;
        let mass: f64 = (0..bins).map(spread).sum();
        Array2::from_shape_fn((1, bins), |(_, bin)| match kind {
            Kind::Probs => (spread(bin) / mass) as f32,
            _ => (spread(bin) / mass).ln() as f32,
        })
    }

    #[test]
    fn ordinary_rows_are_not_left_to_f64() {
        for (kind, mass) in [
            (Kind::Probs, Mass::Check),
            (Kind::LogProbs, Mass::Normalize),
            (Kind::Logits, Mass::Check),
            (Kind::Logits, Mass::AsGiven),
        ] {
            for bins in [16, 255, 256, 257, 2_049, 50_000] {
                let (p, q) = (side(kind, bins, 377), side(kind, bins, 610));
                let batch = Batch::of(kind, &p, kind, &q).unwrap().with_mass(mass);
                let job = Job::new(Divergence::Kl, &batch, None, [false; 2]);
                let mut places = [p.clone(), q.clone()];
                let mut into = places.each_mut().map(|place| Target::Row(place.row_mut(0)));
                let row = made(&job, &mut into);
                assert!(row.is_some_and(|row| row.value > 0.0), "{bins} bins of {kind}, {mass}");
            }
        }
    }

    /// Rows that are left out by their weight, as those of padding are.
    #[test]
    fn nor_are_rows_that_do_not_count() {
        for kinds in [[Kind::Probs; 2], [Kind::Logits; 2], [Kind::Probs, Kind::Logits]] {
            let (p, q) = (side(kinds[0], 300, 377), side(kinds[1], 300, 610));
            let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
            let batch = batch.with_mass(Mass::Normalize);
            for divergence in [Divergence::Kl, Divergence::CrossEntropy, Divergence::Hellinger] {
                let (none, one) = (array![0.0], array![1.0]);
                let value = |weights: &ndarray::Array1<f32>| {
                    let job = Job::new(divergence, &batch, Some(weights.view()), [false; 2]);
                    let mut place = q.clone();
                    let mut into = [Target::Nowhere, Target::Row(place.row_mut(0))];
                    let row = made(&job, &mut into).unwrap();
                    (row.value, place.iter().all(|&x| x == 0.0))
                };
                assert_eq!(value(&none).0, value(&one).0, "{divergence}");
                assert_eq!((value(&none).1, value(&one).1), (true, false), "{divergence}");
            }
        }
    }

    /// Rows next to each other, of which the differences show what is rounded, and have their digits all
    /// the same; with weights and temperatures, which do not change that; of either side alone.
    #[test]
    fn nor_are_logits_that_are_near() {
        for (bins, weight, temperature) in [(16, 1.0, 1.0), (1_000, 1e3, 1.0), (1_000, 1e-3, 4.0)] {
            let p = side(Kind::Logits, bins, 377);
            let q = Array2::from_shape_fn((1, bins), |(_, bin)| {
                p[[0, bin]] + 1e-5 * ((bin * 610) % 1013) as f32 / 1013.0
            });
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
            let weights = array![weight];
            for wanted in [[true, true], [true, false], [false, true]] {
                let job = Job::new(Divergence::Kl, &batch, Some(weights.view()), [false; 2]);
                let mut places = [p.clone(), q.clone()];
                let rows = places.each_mut().map(|place| place.row_mut(0));
                let mut wanted = wanted.into_iter();
                let mut into = rows.map(|row| match wanted.next() {
                    Some(true) => Target::Row(row),
                    _ => Target::Nowhere,
                });
                let row = made(&job, &mut into);
                assert!(row.is_some(), "{bins} bins, {weight}, {temperature}");
            }
        }
    }

    #[test]
    fn what_has_no_form_is_left_to_f64() {
        let (p, q) = (side(Kind::Probs, 16, 377), side(Kind::Probs, 16, 610));
        let batch = Batch::probs(&p, &q).unwrap();
        assert!(Job::new(Divergence::Renyi(7.0), &batch, None, [false; 2]).in_f32.is_none());
        let (p, q) = (p.mapv(f64::from), q.mapv(f64::from));
        let wide = Batch::probs(&p, &q).unwrap();
        for divergence in [Divergence::Kl, Divergence::Jeffreys, Divergence::Entropy] {
            assert!(Job::new(divergence, &wide, None, [false; 2]).in_f32.is_none());
        }
    }

    /// Most of a teacher's probabilities may be 0, and a student's logits far below or masked where they are.
    #[test]
    fn nor_are_teachers_with_zeros_beside_logits() {
        let (mut p, mut q) = (side(Kind::Probs, 300, 377), side(Kind::Logits, 300, 610));
        p.iter_mut().skip(10).for_each(|x| *x = 0.0);
        p /= p.sum();
        (q[[0, 20]], q[[0, 21]], q[[0, 22]]) = (f32::NEG_INFINITY, -1e9, -95.0);
        let batch = Batch::of(Kind::Probs, &p, Kind::Logits, &q).unwrap();
        let batch = batch.with_mass(Mass::Normalize);
        for divergence in [Divergence::Kl, Divergence::CrossEntropy, Divergence::JsDistance] {
            let job = Job::new(divergence, &batch, None, [false; 2]);
            let mut place = q.clone();
            let mut into = [Target::Nowhere, Target::Row(place.row_mut(0))];
            let row = made(&job, &mut into);
            assert!(row.is_some_and(|row| row.value > 0.0), "{divergence}");
            let mut into = [Target::Row(place.row_mut(0)), Target::Nowhere];
            let (_, are_made) = job.row_in_f32(0, None, &mut Memory::default(), &mut into).unwrap();
            assert!(!are_made[0], "{divergence}");
        }
    }

    /// Of cross-entropy those in Q alone, which are those of `kl`.
    #[test]
    fn nor_is_what_softmax_has_of_cross_entropy() {
        for (kinds, bins) in [
            ([Kind::Probs; 2], 300),
            ([Kind::Logits; 2], 300),
            ([Kind::LogProbs; 2], 32_000),
            ([Kind::Probs, Kind::Logits], 300),
        ] {
            let (p, q) = (side(kinds[0], bins, 377), side(kinds[1], bins, 610));
            let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
            let batch = batch.with_mass(Mass::Normalize);
            let job = Job::new(Divergence::CrossEntropy, &batch, None, [false; 2]);
            let mut place = q.clone();
            let mut into = [Target::Nowhere, Target::Row(place.row_mut(0))];
            let row = made(&job, &mut into).unwrap();
            let kl = Engine::cpu().rows(Divergence::Kl, &batch).unwrap().values[0];
            let own = Engine::cpu().rows(Divergence::Entropy, &batch).unwrap().values[0];
            assert!((row.value - own - kl).abs() < 1e-6 * row.value, "{kinds:?}: {}", row.value);
        }
    }

    /// In both sides, of short rows and long ones; flat rows owe their digits to f64.
    #[test]
    fn nor_are_entropies() {
        let kinds = Kind::ALL.iter().map(|&kind| [kind; 2]);
        for kinds in kinds.chain([[Kind::Probs, Kind::Logits], [Kind::LogProbs, Kind::Probs]]) {
            for bins in [5, 100, 4_000] {
                let steep = |kind, step| {
                    let side = side(kind, bins, step);
                    if kind == Kind::Logits { side.mapv(|x| 3.0 * x) } else { side }
                };
                let (p, q) = (steep(kinds[0], 377), steep(kinds[1], 610));
                let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                let batch = batch.with_mass(Mass::Normalize);
                for divergence in [Divergence::CrossEntropy, Divergence::Entropy] {
                    let job = Job::new(divergence, &batch, None, [false; 2]);
                    let mut places = [p.clone(), q.clone()];
                    let mut into = places.each_mut().map(|place| Target::Row(place.row_mut(0)));
                    let row = made(&job, &mut into);
                    assert!(
                        row.is_some_and(|row| row.value > 0.0),
                        "{divergence}, {bins} {kinds:?}"
                    );
                    let is_zero = places[1].iter().all(|&x| x == 0.0);
                    assert_eq!(is_zero, divergence == Divergence::Entropy, "{bins} {kinds:?}");
                }
                let flat = Array2::from_elem((1, bins), p[[0, 0]]);
                let batch = Batch::of(kinds[0], &flat, kinds[1], &q).unwrap();
                let batch = batch.with_mass(Mass::Normalize);
                let job = Job::new(Divergence::Entropy, &batch, None, [false; 2]);
                let mut place = p.clone();
                let mut into = [Target::Row(place.row_mut(0)), Target::Nowhere];
                let (_, are_made) =
                    job.row_in_f32(0, None, &mut Memory::default(), &mut into).unwrap();
                assert!(!are_made[0], "{bins} {kinds:?}");
            }
        }
    }

    /// The value of two rows of logits that f32 makes the gradients of.
    fn in_f32(divergence: Divergence, p: &Array2<f32>, q: &Array2<f32>) -> Option<f32> {
        let batch = Batch::logits(p, q).unwrap();
        let job = Job::new(divergence, &batch, None, [false; 2]);
        let mut places = [p.clone(), q.clone()];
        let mut into = places.each_mut().map(|place| Target::Row(place.row_mut(0)));
        made(&job, &mut into).map(|row| row.value)
    }

    /// The slopes of rows that have little in common are nearly the same wherever there is mass; most of it may be
    /// in one bin; and differences may be small.
    #[test]
    fn nor_are_logits_of_other_divergences_wherever_they_are() {
        for divergence in
            [Divergence::JensenShannon(0.5), Divergence::Hellinger, Divergence::TotalVariation]
        {
            for bins in [300, 32_000] {
                let of = |step| side(Kind::Logits, bins, step);
                let far = [377, 610].map(|step| of(step).mapv(|x| 40.0 * x));
                let mut sharp = [of(377), of(610)];
                (sharp[0][[0, 7]], sharp[1][[0, 7]]) = (8.0, 9.0);
                let near = [of(377), of(377) + 1e-3 * of(610)];
                // Nearly equal numbers are on one side of a kink or the other.
                let has_kink = divergence == Divergence::TotalVariation;
                for (what, [p, q]) in [("far", &far), ("sharp", &sharp), ("near", &near)] {
                    let value = in_f32(divergence, p, q);
                    let is_fast = value.is_some_and(|value| value > 0.0);
                    assert!(is_fast || has_kink && what == "near", "{divergence}, {bins}, {what}");
                }
            }
        }
    }

    /// One bin has most of the mass, and all but one of the others are alike: what rounding takes from their mean
    /// is the same in all, and comes together in the derivative of the first.
    #[test]
    fn the_mean_of_what_is_alike_is_not_taken_for_a_derivative() {
        for bins in [20, 60, 1_000] {
            let mut p = Array2::from_elem((1, bins), 60_000.0_f32);
            p[[0, 7]] += 9.0;
            let mut q = p.clone();
            q[[0, 8]] += 0.004;
            p.iter_mut().skip(bins * 9 / 10).step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
            for divergence in [Divergence::JensenShannon(0.5), Divergence::Hellinger] {
                assert_digits(divergence, &p, &q);
            }
        }
    }

    /// Of rows whose ratio of masses has fewer digits than a small derivative asks for: beside large numbers, and summed as
    /// they stand.
    #[test]
    fn small_derivatives_are_left_to_f64_where_masses_show() {
        let wide = |row: &[f32], bins: usize| {
            let number =
                |(_, bin): (usize, usize)| row.get(bin).copied().unwrap_or(f32::NEG_INFINITY);
            Array2::from_shape_fn((1, bins), number)
        };
        for bins in [3, 64, 300] {
            let check = |p: &[f32], q: &[f32]| {
                assert_digits(Divergence::Kl, &wide(p, bins), &wide(q, bins))
            };
            check(&[60_000.0, 59_983.0], &[-60_000.0, -60_016.5]);
            check(&[100.0, 100.0, 75.0], &[0.0, 0.0, -24.0]);
            let few = (bins as f32 - 1.0).ln() + 3.7;
            for at in 0..20 {
                // Every other bin of P has next to nothing of Q, whose largest number is as likely.
                let p: Vec<f32> = (0..bins)
                    .map(|bin| noise(at, bin) as f32 - if bin == 0 { 0.5 } else { few })
                    .collect();
                let q = |(bin, p): (usize, &f32)| match bin {
                    0 => *p,
                    _ if bin % 2 == 1 => p - 50.0,
                    _ => p + std::f32::consts::LN_2,
                };
                check(&p, &p.iter().enumerate().map(q).collect::<Vec<_>>());
            }
        }
    }

    /// By the temperature they have no room in f32, and the derivatives have; and one of 0 leaves zeros without a sign.
    #[test]
    fn weights_of_short_rows_are_those_of_others() {
        let (p, q) = (array![[0.1_f32, 0.3, 0.2]], array![[0.2_f32, 0.1, 0.1]]);
        let logits = Batch::logits(&p, &q).unwrap().with_temperature(0.1).unwrap();
        let (p, q) = (array![[0.2_f32, 0.5, 0.3]], array![[0.4_f32, 0.3, 0.3]]);
        for batch in [logits, Batch::probs(&p, &q).unwrap()] {
            let of = |weight: f32| {
                let weights = array![weight];
                let weights = Some(weights.view());
                let made = Engine::cpu().gradient(Divergence::Kl, &batch, Wanted::Both, weights);
                let made = made.unwrap();
                [made.p.unwrap(), made.q.unwrap()]
            };
            let [large, one, none] = [6e37, 1.0, 0.0].map(of);
            for (large, one) in large.iter().flatten().zip(one.iter().flatten()) {
                let want = f64::from(*one) * 6e37;
                assert!(
                    (f64::from(*large) - want).abs() <= 1e-6 * want.abs(),
                    "{large:e}: {one:e}"
                );
            }
            assert!(none.iter().flatten().all(|x| x.to_bits() == 0), "{none:?}");
        }
    }

    /// Gradients of logits in f32 are as those in f64.
    fn assert_digits(divergence: Divergence, p: &Array2<f32>, q: &Array2<f32>) {
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        let (engine, both) = (Engine::cpu(), Wanted::Both);
        let batch = Batch::logits(&wide_p, &wide_q).unwrap();
        let want = engine.gradient(divergence, &batch, both, None).unwrap();
        let batch = Batch::logits(p, q).unwrap();
        let [of_both, of_p, of_q] = [both, Wanted::P, Wanted::Q]
            .map(|wanted| engine.gradient(divergence, &batch, wanted, None).unwrap());
        let of_p = [of_both.p, of_p.p].map(|got| (got, &want.p));
        let of_q = [of_both.q, of_q.q].map(|got| (got, &want.q));
        for (got, want) in of_p.into_iter().chain(of_q) {
            let (got, want) = (got.unwrap(), want.as_ref().unwrap());
            let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            for (got, want) in got.iter().zip(want) {
                let off = (f64::from(*got) - want).abs();
                let bins = p.len();
                assert!(off <= 1e-5 * largest, "{divergence}, {bins}: {got:e}, not {want:e}");
            }
        }
    }

    /// More rows than a group has: near each other and far apart, some with zeros, one that is no distribution.
    fn short_rows(kinds: [Kind; 2], bins: usize) -> [Array2<f32>; 2] {
        [0, 1].map(|at: usize| {
            let mut side = Array2::from_shape_fn((21, bins), |(row, bin)| {
                let apart = [2.0, 0.5, 8.0][row % 3];
                2.0 * noise(row, bin) + at as f64 * apart * noise(row + 50, bin)
            });
            for (row, mut numbers) in side.rows_mut().into_iter().enumerate() {
                if row == 7 + at {
                    numbers[bins / 2] = f64::NEG_INFINITY;
                }
                let mass: f64 = numbers.iter().map(|x| x.exp()).sum();
                numbers.mapv_inplace(|x| match kinds[at] {
                    Kind::Probs => x.exp() / mass,
                    Kind::LogProbs => x - mass.ln(),
                    Kind::Logits => x - 3.0,
                });
                if row == 10 + at {
                    numbers[0] = f64::NAN;
                }
            }
            side.mapv(|x| x as f32)
        })
    }

    const SHORT: [(Divergence, f32); 7] = [
        (Divergence::Entropy, 2.0),
        (Divergence::Kl, 1.0),
        (Divergence::JensenShannon(0.5), 1.0),
        (Divergence::Hellinger, 0.5),
        (Divergence::Renyi(0.7), 1.0),
        (Divergence::TotalVariation, 1.0),
        (Divergence::CrossEntropy, 1.0),
    ];

    #[test]
    fn short_rows_are_made_side_by_side() {
        for kinds in [[Kind::Probs; 2], [Kind::LogProbs; 2], [Kind::Logits; 2]] {
            for bins in [2, 5, SHORT_CROSS_ENTROPY, short_logs::LONGEST] {
                let [p, q] = short_rows(kinds, bins);
                let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                let batch = batch.with_mass(Mass::Normalize);
                for (divergence, _) in SHORT {
                    let is_of_logs = divergence == Divergence::Kl && kinds[0] != Kind::Probs;
                    let is_cross = divergence == Divergence::CrossEntropy;
                    // Those of kl of probabilities have a way of their own.
                    if divergence == Divergence::Kl && !is_of_logs
                        || is_cross && bins > SHORT_CROSS_ENTROPY
                    {
                        continue;
                    }
                    let job = Job::new(divergence, &batch, None, [false; 2]);
                    let made = job.group_in_f32(0..LANES, [true; 2], &mut Memory::default());
                    let are_right = made.unwrap().are_made;
                    let made = are_right.iter().filter(|&&is_right| is_right).count();
                    // Four of them raise questions.
                    assert!(made >= 10, "{divergence}, {bins} bins of {kinds:?}: {are_right:?}");
                    let odd = [7, 8, 10, 11].map(|lane| are_right[lane]);
                    // Where P lacks one of three bins or more is no question there.
                    let want = [is_of_logs && bins > 2, false, false, false];
                    assert_eq!(odd, want, "{divergence}, {bins} bins of {kinds:?}");
                }
            }
        }
    }

    /// A slope that jumps next to where a bin is, and masses that are further apart than the rows.
    #[test]
    fn but_those_that_lack_digits_are_not() {
        let p = array![[0.3_f32, 0.3, 0.4], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]];
        let q = array![[0.2_f32, 0.4, 0.4], [0.2, 0.399_999_9, 0.400_000_1], [0.372, 0.36, 0.468]];
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        let are_right = |divergence| {
            let job = Job::new(divergence, &batch, None, [false; 2]);
            let made = job.group_in_f32(0..3, [true; 2], &mut Memory::default()).unwrap();
            [0, 1, 2].map(|lane: usize| made.are_made[lane])
        };
        assert_eq!(are_right(Divergence::TotalVariation), [false; 3]);
        assert_eq!(are_right(Divergence::Hellinger), [true, true, false]);
    }

    /// Their slopes are held against the end, those of their neighbours against the middle.
    #[test]
    fn and_so_are_those_that_are_far_apart() {
        let [p, q] = short_rows([Kind::Logits; 2], 16);
        let far = |side: Array2<f32>, even: bool| {
            let mut side = side;
            for (_, mut row) in
                side.rows_mut().into_iter().enumerate().filter(|(at, _)| at % 2 == 0)
            {
                row.iter_mut().skip(usize::from(even)).step_by(2).for_each(|x| *x += 15.0);
            }
            side
        };
        let (p, q) = (far(p, true), far(q, false));
        let batch = Batch::logits(&p, &q).unwrap();
        for divergence in [Divergence::JensenShannon(0.5), Divergence::Hellinger] {
            let job = Job::new(divergence, &batch, None, [false; 2]);
            let made = job.group_in_f32(0..LANES, [true; 2], &mut Memory::default()).unwrap();
            let are_right = made.are_made;
            let far = (0..LANES).step_by(2).filter(|&lane| are_right[lane]).count();
            assert!(far >= 6, "{divergence}: {are_right:?}");
        }
    }

    /// Whatever stands beside it, of either side alone, with weights, and where places are not next to each other.
    #[test]
    fn rows_have_the_same_bits_in_any_company() {
        let kinds = Kind::ALL.iter().map(|&kind| [kind; 2]);
        let kinds = kinds.chain([[Kind::Probs, Kind::Logits]]);
        for (kinds, bins) in kinds.flat_map(|kinds| [2, 7, 40, 300].map(|bins| (kinds, bins))) {
            let [p, q] = short_rows(kinds, bins);
            for (divergence, weight) in SHORT {
                let of = |rows: Range<usize>| {
                    let [p, q] = [&p, &q].map(|side| side.slice_axis(Axis(0), rows.clone().into()));
                    let batch = Batch::of(kinds[0], p, kinds[1], q).unwrap();
                    let batch = batch.with_mass(Mass::Normalize).with_on_invalid(OnInvalid::Nan);
                    let weights = ndarray::Array1::from_elem(rows.len(), weight);
                    let mut wide = [(); 2].map(|()| Array2::zeros((rows.len(), 2 * bins)));
                    let [of_p, of_q] = wide
                        .each_mut()
                        .map(|side| side.slice_axis_mut(Axis(1), Slice::new(0, None, 2)));
                    let weights = Some(weights.view());
                    let engine = Engine::cpu();
                    engine
                        .gradient_into(divergence, &batch, weights, of_p.into(), of_q.into())
                        .unwrap();
                    let made = engine.gradient(divergence, &batch, Wanted::Both, weights).unwrap();
                    let both = [made.p.unwrap(), made.q.unwrap()];
                    for (got, want) in wide.iter().zip(&both) {
                        let apart =
                            got.slice_axis(Axis(1), Slice::new(0, None, 2)).mapv(f32::to_bits);
                        assert_eq!(apart, want.mapv(f32::to_bits), "{divergence}, {kinds:?}");
                    }
                    let alone = engine.gradient(divergence, &batch, Wanted::Q, weights).unwrap();
                    let bits = |side: &Array2<f32>| side.mapv(f32::to_bits);
                    (
                        made.outcome.values.mapv(f32::to_bits),
                        both.each_ref().map(bits),
                        bits(&alone.q.unwrap()),
                    )
                };
                let (values, [of_p, of_q], alone) = of(0..21);
                for row in 0..21 {
                    let own = of(row..row + 1);
                    let what = format!("{divergence}, {bins} bins of {kinds:?}, row {row}");
                    assert_eq!(own.0[0], values[row], "{what}");
                    assert_eq!(own.1[0].row(0), of_p.row(row), "{what}");
                    assert_eq!(own.1[1].row(0), of_q.row(row), "{what}");
                    assert_eq!(own.2.row(0), alone.row(row), "{what}");
                }
            }
        }
    }

    #[test]
    fn nor_are_those_of_other_divergences() {
        for divergence in [
            Divergence::JensenShannon(0.5),
            Divergence::JsDistance,
            Divergence::Jeffreys,
            Divergence::Hellinger,
            Divergence::Renyi(2.0),
            Divergence::ChiSquared,
            Divergence::TotalVariation,
            Divergence::JensenShannon(0.3),
            Divergence::Renyi(0.7),
            Divergence::Alpha(-2.0),
        ] {
            let kinds = Kind::ALL.iter().map(|&kind| [kind; 2]);
            let kinds = kinds.chain([[Kind::Probs, Kind::Logits], [Kind::LogProbs, Kind::Probs]]);
            for (kinds, bins) in
                kinds.flat_map(|kinds| [1, 16, 255, 32_000].map(|bins| (kinds, bins)))
            {
                let (p, q) = (side(kinds[0], bins, 377), side(kinds[1], bins, 610));
                let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                let batch = batch.with_mass(Mass::Normalize);
                let job = Job::new(divergence, &batch, None, [false; 2]);
                let mut places = [p.clone(), q.clone()];
                let mut into = places.each_mut().map(|place| Target::Row(place.row_mut(0)));
                let row = made(&job, &mut into);
                // One bin is equal to another, and owes its digits to f64.
                let is_fast = row.is_some_and(|row| row.value > 0.0);
                assert_eq!(is_fast, bins > 1, "{divergence}, {bins} {kinds:?}");
            }
        }
    }

    /// Masses whose inverses have no room for units, and slopes that are small beside what they are made of.
    #[test]
    fn derivatives_are_numbers_wherever_they_have_one() {
        let gradients = |divergence, [p, q]: [[f64; 2]; 2], mass| {
            let (p, q) = (array![p], array![q]);
            let batch = Batch::probs(&p, &q).unwrap().with_mass(mass);
            let made = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None);
            let made = made.unwrap();
            [made.p.unwrap(), made.q.unwrap()]
        };
        let assert_close =
            |got: f64, want: f64| assert!((got - want).abs() < 1e-10 * want.abs(), "{got:e}");
        let tiny = [[1e-295, 2e-295], [2e-295, 1e-295]];
        // (1 − p/q) / Q
        let [_, of_q] = gradients(Divergence::Kl, tiny, Mass::Normalize);
        assert_close(of_q[[0, 0]], 0.5 / 3e-295);
        // (1 − (p/q)^0.1) / 0.1
        let apart = [[1e200, 1.0], [1e-147, 1.0]];
        let [_, of_q] = gradients(Divergence::Alpha(0.1), apart, Mass::Generalized);
        assert_close(of_q[[0, 0]], (1.0 - 10_f64.powf(34.7)) / 0.1);
        // 1 − √(q/p)/Σ√(p·q), beside an overlap that is next to nothing
        let next_to_disjoint = [[1.0, 1e-307], [1e-307, 1.0]];
        let [of_p, of_q] = gradients(Divergence::Renyi(0.5), next_to_disjoint, Mass::Check);
        assert_close(of_p[[0, 1]], -0.5e307);
        assert_close(of_q[[0, 0]], -0.5e307);
    }
}

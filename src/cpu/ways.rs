//! Rows of any divergences on the CPU, several of the same batch in one pass over memory: the rows of a task
//! stay in the cache while each divergence is computed in the way that is right for it. Where f32 is not, all
//! that are left of a row are made in f64 together.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bins::Reading;
use super::family::{Family, Work, each};
use super::in_f32::{self, Asked, Judge, Sides, Verdicts};
use super::rows::{fill_in, put_group, rows_per_task};
use super::side_by_side::{self, Group, rows_together};
use super::sums::LANES;
use super::{entropies_of_logs, logs, widen};
use crate::batch::Batch;
use crate::element::{Element, Value};
use crate::error::Side;
use crate::outcome::{Slots, in_common_tasks};
use crate::pairs::blocks;
use crate::verdict::{Judged, MassRule};
use crate::{Divergence, Error, Outcome};

/// How a divergence of the rows of a batch is computed.
enum Way {
    /// By the loops of [`rows`](super::rows), with P and Q in each other's place for the reverse.
    Kl {
        is_reverse: bool,
    },
    /// Row by row, where f32 is right for it.
    InF32(Judge),
    InF64,
}

impl Way {
    fn of<T: Element>(divergence: Divergence, batch: &Batch<'_, T>) -> Way {
        if !in_f32::takes(batch) {
            return Way::InF64;
        }
        let has_loops = batch.is_probs() || logs::take(batch);
        match divergence.at_its_limit() {
            Divergence::Kl if has_loops => Way::Kl { is_reverse: false },
            Divergence::ReverseKl if has_loops => Way::Kl { is_reverse: true },
            _ => Judge::of(divergence).map_or(Way::InF64, Way::InF32),
        }
    }
}

/// Whether the rows of a batch are judged in f32, by what [`in_f32`] has for a divergence.
pub(super) fn are_judged_in_f32<T: Element>(divergence: Divergence, batch: &Batch<'_, T>) -> bool {
    matches!(Way::of(divergence, batch), Way::InF32(_))
}

/// One outcome for each divergence.
pub(super) fn outcomes<T: Element>(
    divergences: &[Divergence],
    batch: &Batch<'_, T>,
) -> Result<Vec<Outcome<T::Value>>, Error> {
    let ways: Vec<_> = divergences.iter().map(|&one| Way::of(one, batch)).collect();
    let new = |_: &Divergence| Outcome::of(batch, "cpu");
    let mut outcomes = divergences.iter().map(new).collect::<Result<Vec<_>, _>>()?;
    let closer_looks: Vec<_> = divergences.iter().map(|_| AtomicUsize::new(0)).collect();
    in_common_tasks(&mut outcomes, rows_per_task(batch.bins()), |first, mut slots| {
        for (place, way) in ways.iter().enumerate() {
            if let Way::Kl { is_reverse } = *way {
                let looks = fill_in_kl(batch, is_reverse, first, slots[place].lent());
                closer_looks[place].fetch_add(looks, Ordering::Relaxed);
            }
        }
        if ways.iter().any(|way| !matches!(way, Way::Kl { .. })) {
            Rows { divergences, ways: &ways, batch, first, slots }.fill_in();
        }
    });
    for (outcome, looks) in outcomes.iter_mut().zip(closer_looks) {
        outcome.closer_looks = looks.into_inner();
    }
    Ok(outcomes)
}

fn fill_in_kl<T: Element>(
    batch: &Batch<'_, T>,
    is_reverse: bool,
    first: usize,
    slots: Slots<'_, T::Value>,
) -> usize {
    match is_reverse {
        true => fill_in(&batch.swapped(), first, slots.swapped()),
        false => fill_in(batch, first, slots),
    }
}

/// The rows of a task, and their places in all outcomes.
struct Rows<'a, 'b, 's, T: Element> {
    divergences: &'a [Divergence],
    ways: &'a [Way],
    batch: &'a Batch<'b, T>,
    first: usize,
    slots: Vec<Slots<'s, T::Value>>,
}

impl<T: Element> Rows<'_, '_, '_, T> {
    /// Fills in what has no loops of its own. None of it takes a closer look: what f32 is not right for is in
    /// f64 like all that has no other way.
    fn fill_in(mut self) {
        let (mut spaces, mut in_f64) = (Spaces::default(), None);
        let (mut left, mut places) = (Vec::new(), Vec::new());
        let rows = self.slots.first().map_or(0, |slots| slots.values.len());
        for group in blocks(0..rows, rows_together(self.batch.bins())) {
            left.clear();
            left.extend(self.ways.iter().map(|way| [matches!(way, Way::InF64); LANES]));
            if self.judges().next().is_some() {
                self.judge(group.clone(), &mut spaces, &mut left);
            }
            if !left.iter().any(|lanes| lanes.contains(&true)) {
                continue;
            }
            for (lane, at) in group.enumerate() {
                places.clear();
                places.extend((0..left.len()).filter(|&place| left[place][lane]));
                if places.is_empty() {
                    continue;
                }
                let Rows { divergences, batch, first, ref mut slots, .. } = self;
                let in_f64 = InF64::of(&mut in_f64, &places, divergences, batch);
                each(&in_f64.family, batch, first + at, &mut in_f64.work, |which, judged| {
                    slots[places[which]].put(at, judged.row());
                });
            }
        }
    }

    fn judges(&self) -> impl Iterator<Item = &'_ Judge> {
        self.ways.iter().filter_map(|way| match way {
            Way::InF32(judge) => Some(judge),
            _ => None,
        })
    }

    /// Fills in what f32 is right for of some rows, and tells which places of each are left.
    fn judge(&mut self, rows: Range<usize>, spaces: &mut Spaces, left: &mut [[bool; LANES]]) {
        let needs_differences = self.judges().any(|judge| judge.needs_differences);
        match rows_together(self.batch.bins()) {
            1 => self.judge_row(rows.start, spaces, needs_differences, left),
            _ => self.judge_group(rows, &mut spaces.group, needs_differences, left),
        }
    }

    fn judge_row(
        &mut self,
        at: usize,
        Spaces { row: space, widened: [p_space, q_space], .. }: &mut Spaces,
        needs_differences: bool,
        left: &mut [[bool; LANES]],
    ) {
        let are_logs = self.batch.are_logs();
        let of_logs = |judge: &Judge| judge.of_logs.filter(|_| are_logs);
        let of_probs = self.judges().filter(|judge| of_logs(judge).is_none()).count();
        let Rows { ways, batch, first, ref mut slots, .. } = *self;
        let numbers = [Side::P, Side::Q].map(|side| batch.packed(side, first + at));
        let numbers = numbers.each_ref().map(|side| &**side);
        let sides = match of_probs {
            0 => None,
            _ => Sides::of(batch, numbers, space, of_probs > 1, needs_differences),
        };
        for (place, way) in ways.iter().enumerate() {
            let Way::InF32(judge) = way else { continue };
            let judged = match of_logs(judge) {
                Some(which) => {
                    let [p, q] = numbers;
                    let sides = [widen::in_f32(p, p_space), widen::in_f32(q, q_space)];
                    let (rule, temperature) = (MassRule::of(batch), batch.temperature());
                    entropies_of_logs::judged(which, rule, sides, temperature)
                }
                None => sides.and_then(|sides| judge.judged(sides)),
            };
            match judged {
                Some(judged) => drop(slots[place].put(at, judged.row())),
                None => left[place][0] = true,
            }
        }
    }

    fn judge_group(
        &mut self,
        rows: Range<usize>,
        space: &mut side_by_side::Space,
        needs_differences: bool,
        left: &mut [[bool; LANES]],
    ) {
        let Rows { ways, batch, first, ref mut slots, .. } = *self;
        let in_batch = first + rows.start..first + rows.end;
        let group = Group::of(batch, in_batch, space, needs_differences);
        for (place, way) in ways.iter().enumerate() {
            let Way::InF32(judge) = way else { continue };
            let Verdicts { values, are_right } = judge.judged_side_by_side(&group);
            if put_all(&values, &are_right, &group.masses, rows.clone(), &mut slots[place]) {
                continue;
            }
            for (lane, at) in rows.clone().enumerate() {
                left[place][lane] = !are_right[lane];
                if are_right[lane] {
                    let verdict = Asked::verdict(values[lane]);
                    let masses = group.masses.each_ref().map(|side| side[lane]);
                    slots[place].put(at, Judged { verdict, masses }.row());
                }
            }
        }
    }
}

/// Puts the values of a group into their places, if f32 is right for all of its rows and has them.
fn put_all<V: Value>(
    values: &[f64; LANES],
    are_right: &[bool; LANES],
    masses: &[[f64; LANES]; 2],
    rows: Range<usize>,
    slots: &mut Slots<'_, V>,
) -> bool {
    let (mut all, most) = (rows.len() == LANES, f64::from(f32::MAX));
    for lane in 0..LANES {
        all &= are_right[lane] & (values[lane].abs() <= most);
    }
    if all {
        put_group(slots, rows, values, masses.each_ref());
    }
    all
}

/// Memory for the numbers of a row, or of rows side by side.
#[derive(Default)]
struct Spaces {
    row: in_f32::Space,
    widened: [Vec<f32>; 2],
    group: side_by_side::Space,
}

/// The divergences in some places, in f64.
struct InF64 {
    places: Vec<usize>,
    family: Family,
    work: Work,
}

impl InF64 {
    /// That of the row before, if it had the same places.
    fn of<'a, T: Element>(
        before: &'a mut Option<InF64>,
        places: &[usize],
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
    ) -> &'a mut InF64 {
        let new = || {
            let asked: Vec<_> = places.iter().map(|&place| divergences[place]).collect();
            let family = Family::new(&asked, Reading::of(batch));
            let work = Work::new(&family);
            InF64 { places: places.to_vec(), family, work }
        };
        if before.as_ref().is_some_and(|before| before.places != places) {
            *before = None;
        }
        before.get_or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::in_f32::LONGEST;
    use super::*;
    use crate::Mass;
    use crate::kind::Kind;

    fn way<T: Element>(divergence: Divergence, batch: &Batch<'_, T>) -> &'static str {
        match Way::of(divergence, batch) {
            Way::Kl { is_reverse: false } => "kl",
            Way::Kl { is_reverse: true } => "reverse kl",
            Way::InF32(_) => "f32",
            Way::InF64 => "f64",
        }
    }

    /// Values do not tell: what is left to f64 is right as well, and comes later.
    #[test]
    fn each_divergence_has_its_way() {
        let ways = |kinds: [Kind; 2], bins: usize, mass| {
            let side = Array2::from_elem((1, bins), 0.5_f32);
            let batch = Batch::of(kinds[0], &side, kinds[1], &side).unwrap().with_mass(mass);
            let asked = [
                Divergence::Kl,
                Divergence::ReverseKl,
                Divergence::Jeffreys,
                Divergence::Entropy,
                Divergence::Renyi(7.0),
            ];
            asked.map(|divergence| way(divergence, &batch))
        };
        let (probs, logits, mixed) =
            ([Kind::Probs; 2], [Kind::Logits; 2], [Kind::Probs, Kind::Logits]);
        let all = ["kl", "reverse kl", "f32", "f32", "f64"];
        for mass in [Mass::Check, Mass::Normalize] {
            assert_eq!(ways(probs, 2, mass), all);
            assert_eq!(ways(logits, LONGEST, mass), all);
            assert_eq!(ways(probs, LONGEST + 1, mass), ["f64"; 5]);
        }
        assert_eq!(ways(mixed, 2, Mass::Normalize), ["f32", "f32", "f32", "f32", "f64"]);
        assert_eq!(ways(mixed, 2, Mass::AsGiven), ["f64"; 5]);
        assert_eq!(ways(logits, 2, Mass::AsGiven), all);
        assert_eq!(ways(probs, 2, Mass::Generalized), ["f64"; 5]);
        let wide = Array2::from_elem((1, 2), 0.5_f64);
        assert_eq!(way(Divergence::Jeffreys, &Batch::probs(&wide, &wide).unwrap()), "f64");
        let (narrow, weights) = (wide.mapv(|x| x as f32), [1.0, 1.0]);
        let batch = Batch::probs(&narrow, &narrow).unwrap().with_bin_weights(&weights).unwrap();
        assert_eq!(way(Divergence::Jeffreys, &batch), "f64");
    }
}

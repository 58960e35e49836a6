//! What a row turned out to be, before it is rounded to the type of the results.

use crate::batch::{Batch, Mass};
use crate::element::{Element, Value};
use crate::error::{InvalidRow, Rule, Side};
use crate::kind::Kind;
use crate::outcome::{Row, Status};
use crate::sums::DOUBT;

/// A finite value, +inf, or the side and the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Value(f64),
    Infinite,
    Invalid(Side, Rule),
}

/// A verdict, and the masses of P and Q that it was reached with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judged {
    pub verdict: Verdict,
    pub masses: [f64; 2],
}

impl Judged {
    /// The verdict on a row of which a bin holds nothing of its side's kind.
    pub(crate) fn invalid(offender: &InvalidRow) -> Judged {
        Judged {
            verdict: Verdict::Invalid(offender.side, offender.rule),
            masses: [f64::NAN, f64::NAN],
        }
    }

    /// As a caller gets it.
    pub(crate) fn row<V: Value>(self) -> Row<V> {
        let (value, status) = match self.verdict {
            Verdict::Value(value) if !V::from_f64(value).to_f64().is_finite() => {
                (f64::NAN, Status::Invalid(Rule::Overflow))
            }
            Verdict::Value(value) => (value, Status::Ok),
            Verdict::Infinite => (f64::INFINITY, Status::Infinite),
            Verdict::Invalid(_, rule) => (f64::NAN, Status::Invalid(rule)),
        };
        let masses = self.masses.map(V::from_f64);
        Row { value: V::from_f64(value), status, masses, looked_closer: false }
    }

    /// What is wrong with a row that was called invalid as a whole.
    pub(crate) fn offender<T: Element>(
        self,
        batch: &Batch<'_, T>,
        row: usize,
    ) -> Option<InvalidRow> {
        match self.verdict {
            Verdict::Invalid(side, rule) => {
                Some(batch.offending_row(side, row, self.masses[side as usize], rule))
            }
            Verdict::Value(value) => Some(batch.offending_row(Side::P, row, value, Rule::Overflow)),
            Verdict::Infinite => None,
        }
    }
}

/// Which masses the two sides of a batch may have.
#[derive(Clone, Copy)]
pub(crate) struct MassRule {
    pub kinds: [Kind; 2],
    pub policy: Mass,
    pub tolerance: f64,
}

impl MassRule {
    pub(crate) fn of<T: Element>(batch: &Batch<'_, T>) -> MassRule {
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        MassRule { kinds, policy: batch.mass(), tolerance: batch.mass_tolerance() }
    }

    /// The first side whose mass is refused, P before Q. Softmax gives logits the mass 1, unless all of them
    /// are masked.
    pub(crate) fn refuses(self, masses: [f64; 2]) -> Option<(Side, Rule)> {
        [Side::P, Side::Q]
            .into_iter()
            .zip(masses)
            .find_map(|(side, mass)| self.broken(side, mass).map(|rule| (side, rule)))
    }

    /// A number, and how far from it masses above 0 that were summed in f32 may be and surely break no rule.
    pub(crate) fn sure(self) -> (f64, f64) {
        match self.policy {
            Mass::Check => (1.0, self.tolerance - DOUBT),
            _ => (0.0, f64::MAX),
        }
    }

    /// The rule that the mass of a row of a side breaks.
    pub(crate) fn broken(self, side: Side, mass: f64) -> Option<Rule> {
        match (self.kinds[side as usize], self.policy) {
            (Kind::Logits, _) | (_, Mass::Normalize) => (mass == 0.0).then_some(Rule::NoMass),
            (_, Mass::Check) => ((mass - 1.0).abs() > self.tolerance).then_some(Rule::Mass),
            (_, Mass::AsGiven | Mass::Generalized) => None,
        }
    }
}

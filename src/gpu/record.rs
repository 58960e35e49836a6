//! The records that the shaders leave, as `shaders/shared/sums.wgsl` and `shaders/shared/chain.wgsl`
//! declare them. The last three words are the same in all.

use std::mem::offset_of;

use crate::batch::{Batch, Mass};
use crate::chain::{self, Node};
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::outcome::Row;
use crate::sums::{self, Sums};
use crate::term::Term;

/// `flags`: some bin has `p > 0 = q`.
pub const SOME_INFINITE: u32 = 1;
/// `flags`: a merged record was not written by the submission that merged it.
pub const SOME_STALE: u32 = 2;
/// `flags`: some bin holds nothing of its side's kind.
pub const SOME_INVALID: u32 = 4;
/// `flags`: some bin is beyond what the shader's arithmetic takes.
pub const SOME_HUGE: u32 = 8;

/// Sums over a row of probabilities.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct SumsRecord {
    pub g: f32,
    pub p: f32,
    pub q: f32,
    pub d: f32,
    pub top: u32,
    pub proof: Proof,
}

/// The node above the bins of a row of which a side is logarithms.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct ChainRecord {
    pub w: f32,
    pub v: f32,
    pub p_exponent: i32,
    pub q_exponent: i32,
    pub high: f32,
    pub low: f32,
    pub g: f32,
    pub unused: [u32; 2],
    pub proof: Proof,
}

/// What every record ends with: which submission wrote it, and how much went into it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Proof {
    pub consumed: u32,
    pub flags: u32,
    pub ticket: u32,
}

/// The fields of a record and their offsets, for the test that reads the shaders.
pub type Fields = &'static [(&'static str, usize)];

const PROOF_OF_SUMS: usize = offset_of!(SumsRecord, proof);
const PROOF_OF_CHAIN: usize = offset_of!(ChainRecord, proof);

/// Those of [`SumsRecord`].
pub const SUMS_FIELDS: Fields = &[
    ("g", offset_of!(SumsRecord, g)),
    ("p", offset_of!(SumsRecord, p)),
    ("q", offset_of!(SumsRecord, q)),
    ("d", offset_of!(SumsRecord, d)),
    ("top", offset_of!(SumsRecord, top)),
    ("consumed", PROOF_OF_SUMS + offset_of!(Proof, consumed)),
    ("flags", PROOF_OF_SUMS + offset_of!(Proof, flags)),
    ("ticket", PROOF_OF_SUMS + offset_of!(Proof, ticket)),
];

/// Those of [`ChainRecord`].
pub const CHAIN_FIELDS: Fields = &[
    ("w", offset_of!(ChainRecord, w)),
    ("v", offset_of!(ChainRecord, v)),
    ("p_exponent", offset_of!(ChainRecord, p_exponent)),
    ("q_exponent", offset_of!(ChainRecord, q_exponent)),
    ("high", offset_of!(ChainRecord, high)),
    ("low", offset_of!(ChainRecord, low)),
    ("g", offset_of!(ChainRecord, g)),
    ("unused_0", offset_of!(ChainRecord, unused)),
    ("unused_1", offset_of!(ChainRecord, unused) + 4),
    ("consumed", PROOF_OF_CHAIN + offset_of!(Proof, consumed)),
    ("flags", PROOF_OF_CHAIN + offset_of!(Proof, flags)),
    ("ticket", PROOF_OF_CHAIN + offset_of!(Proof, ticket)),
];

/// The records that a job left, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Records {
    pub words: Vec<u32>,
    pub record_bytes: usize,
    /// Which submission wrote them, if all went well.
    pub ticket: u32,
}

impl Records {
    /// The words of each record.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[u32]> {
        self.words.chunks_exact(self.record_bytes / 4)
    }

    /// Checks that the records are what their submission owed: a dispatch that did not run, or not
    /// to its end, leaves something else.
    pub(crate) fn verify(&self, bins_of: impl Fn(usize) -> usize) -> Result<(), String> {
        for (at, record) in self.each().enumerate() {
            proof(record).verify(self.ticket, bins_of(at))?;
        }
        Ok(())
    }

    /// Marks the records as those of another submission.
    pub(crate) fn stamp(&mut self, ticket: u32) {
        self.ticket = ticket;
        for record in self.words.chunks_exact_mut(self.record_bytes / 4) {
            if let Some(last) = record.last_mut() {
                *last = ticket;
            }
        }
    }
}

/// The end of a record.
fn proof(record: &[u32]) -> Proof {
    match record {
        [.., consumed, flags, ticket] => {
            Proof { consumed: *consumed, flags: *flags, ticket: *ticket }
        }
        _ => Proof::default(),
    }
}

impl Proof {
    fn verify(self, ticket: u32, bins: usize) -> Result<(), String> {
        if self.ticket != ticket || self.flags & SOME_STALE != 0 {
            return Err("a dispatch did not run: its results are not of this submission".into());
        }
        if self.consumed as usize != bins {
            return Err(format!(
                "a dispatch was cut short: {} of {bins} bins were consumed",
                self.consumed
            ));
        }
        Ok(())
    }
}

impl SumsRecord {
    pub(crate) fn of(words: &[u32]) -> SumsRecord {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(words))
    }

    pub(crate) fn sums(self) -> Sums {
        Sums {
            g: self.g.into(),
            p: self.p.into(),
            q: self.q.into(),
            d: self.d.into(),
            infinite: self.proof.flags & SOME_INFINITE != 0,
            invalid: self.top >= f32::INFINITE,
            huge: self.top >= f32::HUGE,
        }
    }

    pub(crate) fn settle<T: Element>(self, batch: &Batch<'_, T>, row: usize) -> Row<T::Value> {
        sums::settle(batch, row, &self.sums())
    }
}

impl ChainRecord {
    pub(crate) fn of(words: &[u32]) -> ChainRecord {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(words))
    }

    pub(crate) fn node(self) -> Node {
        use std::f64::consts::LN_2;
        Node {
            masses: [self.w.into(), self.v.into()],
            scales: [self.p_exponent, self.q_exponent].map(|exponent| f64::from(exponent) * LN_2),
            ln_ratio: [self.high.into(), self.low.into()],
            g: self.g.into(),
            infinite: self.proof.flags & SOME_INFINITE != 0,
            invalid: self.proof.flags & SOME_INVALID != 0,
        }
    }

    /// The results of the row; from a closer look in f64 where f32 lacks digits.
    pub(crate) fn settle<T: Element>(self, batch: &Batch<'_, T>, row: usize) -> Row<T::Value> {
        let node = self.node();
        let huge = self.proof.flags & SOME_HUGE != 0;
        if !node.invalid && (huge || lacks_digits(batch, row, &node)) {
            return chain::settle(batch, row, &chain::node(batch, row));
        }
        chain::settle(batch, row, &node)
    }
}

/// Whether the answer depends on more digits of a node than f32 sums have.
fn lacks_digits<T: Element>(batch: &Batch<'_, T>, row: usize, node: &Node) -> bool {
    /// Below this the rounding of double-length logarithms begins to show.
    const LEAST: f64 = 1e-11;
    /// Rounding of a mass.
    const DOUBT: f64 = 1e-5;
    if node.masses.contains(&0.0) || node.infinite {
        return false;
    }
    let divergence = node.divergence();
    if divergence < LEAST && batch.row(Side::P, row) != batch.row(Side::Q, row) {
        return true;
    }
    let weighted = [Side::P, Side::Q].map(|side| batch.kind(side) != Kind::Logits);
    match batch.mass() {
        Mass::Normalize => false,
        Mass::Check => [Side::P, Side::Q].into_iter().zip(weighted).any(|(side, weighted)| {
            let off = (node.ln_mass(side).exp() - 1.0).abs() - batch.mass_tolerance();
            weighted && off.abs() < DOUBT
        }),
        // Here the masses themselves go into the value.
        Mass::AsGiven | Mass::Generalized if weighted[0] != weighted[1] => true,
        // The ratio of the masses is rounded, relative to how far the bins lie apart.
        Mass::AsGiven => {
            (divergence + node.ln_ratio()).abs() < 0.2 * divergence.sqrt() + 10.0 * DOUBT
        }
        Mass::Generalized => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWED: Proof = Proof { consumed: 40, flags: 0, ticket: 7 };

    #[test]
    fn what_a_submission_owes_is_accepted() {
        assert_eq!(OWED.verify(7, 40), Ok(()));
        assert_eq!(Proof { flags: SOME_INFINITE, ..OWED }.verify(7, 40), Ok(()));
    }

    #[test]
    fn what_another_one_left_is_refused() {
        // Cleared memory, a plausible 0 among it.
        assert!(Proof::default().verify(7, 40).is_err());
        assert!(OWED.verify(8, 40).is_err());
        assert!(Proof { flags: SOME_STALE, ..OWED }.verify(7, 40).is_err());
        assert!(Proof { flags: SOME_STALE | SOME_INFINITE, ..OWED }.verify(7, 40).is_err());
    }

    #[test]
    fn a_dispatch_that_was_cut_short_is_refused() {
        assert!(OWED.verify(7, 41).is_err());
        assert!(OWED.verify(7, 39).is_err());
    }

    #[test]
    fn each_record_is_held_against_its_own_bins() {
        let record = |proof| SumsRecord { proof, ..SumsRecord::default() };
        let all = [record(OWED), record(Proof { consumed: 3, ..OWED })];
        let words = bytemuck::cast_slice(&all).to_vec();
        let mut records = Records { words, record_bytes: size_of::<SumsRecord>(), ticket: 7 };
        assert_eq!(records.verify(|at| [40, 3][at]), Ok(()));
        assert!(records.verify(|_| 40).is_err());
        records.stamp(8);
        assert_eq!(SumsRecord::of(records.each().last().unwrap()).proof.ticket, 8);
        assert_eq!(records.verify(|at| [40, 3][at]), Ok(()));
    }
}

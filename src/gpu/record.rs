//! The records that the shaders leave, as `shaders/shared/sums.wgsl`, `chain.wgsl` and `terms.wgsl` there
//! and `shaders/matrix.wgsl` declare them. The last three words are the same in all.

use super::variant::{Family, Variant};
use crate::batch::Batch;
use crate::chain::{self, Node};
use crate::element::Element;
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

/// `flags`: some bin has `q > 0 = p`.
pub const SOME_OF_Q_ALONE: u32 = 16;
/// `flags`: some bin has `p > 0` and `q > 0`.
pub const SOME_OF_BOTH: u32 = 32;
/// `flags`: some bin has a number that makes it nothing beside others, if there are such.
pub const SOME_MASKED: u32 = 64;

/// What a field of a record holds: numbers of the arithmetic's type, or a word.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Real,
    TwoReals,
    SixteenReals,
    Word,
}

const SUMS: &[(&str, Field)] = &[
    ("g_and_p", Field::TwoReals),
    ("q_and_d", Field::TwoReals),
    ("top", Field::Word),
    ("consumed", Field::Word),
    ("flags", Field::Word),
    ("ticket", Field::Word),
];

const CHAIN: &[(&str, Field)] = &[
    ("w", Field::Real),
    ("v", Field::Real),
    ("p_exponent", Field::Word),
    ("q_exponent", Field::Word),
    ("high", Field::Real),
    ("low", Field::Real),
    ("g", Field::Real),
    ("unused", Field::Word),
    ("consumed", Field::Word),
    ("flags", Field::Word),
    ("ticket", Field::Word),
];

const TERMS: &[(&str, Field)] = &[
    ("first", Field::Real),
    ("second", Field::Real),
    ("third", Field::Real),
    ("fourth", Field::Real),
    ("p_only", Field::Real),
    ("q_only", Field::Real),
    ("largest", Field::Real),
    ("unused", Field::Word),
    ("consumed", Field::Word),
    ("flags", Field::Word),
    ("ticket", Field::Word),
];

const PAIRS: &[(&str, Field)] = &[
    ("sums", Field::SixteenReals),
    ("unused", Field::Word),
    ("consumed", Field::Word),
    ("flags", Field::Word),
    ("ticket", Field::Word),
];

/// The fields of a variant's records and their offsets: one after the other, without a gap.
pub fn fields(variant: Variant) -> Vec<(&'static str, usize)> {
    let mut offset = 0;
    let with_offset = |&(name, field): &(&'static str, Field)| {
        let at = offset;
        offset += size(field, variant);
        (name, at)
    };
    list(variant).iter().map(with_offset).collect()
}

/// Bytes of a variant's records.
pub(crate) fn bytes(variant: Variant) -> usize {
    list(variant).iter().map(|&(_, field)| size(field, variant)).sum()
}

fn list(variant: Variant) -> &'static [(&'static str, Field)] {
    match variant.family {
        Family::Sums => SUMS,
        Family::Chain | Family::Logs => CHAIN,
        Family::Terms => TERMS,
        Family::Pairs(_) => PAIRS,
    }
}

fn size(field: Field, variant: Variant) -> usize {
    let real = if variant.is_f64() { 8 } else { 4 };
    match field {
        Field::Real => real,
        Field::TwoReals => 2 * real,
        Field::SixteenReals => 16 * real,
        Field::Word => 4,
    }
}

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

/// What every record ends with: which submission wrote it, and how much went into it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Proof {
    consumed: u32,
    flags: u32,
    ticket: u32,
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

/// Takes a record apart, field by field.
struct Reader<'a> {
    words: &'a [u32],
    variant: Variant,
}

impl Reader<'_> {
    fn word(&mut self) -> u32 {
        let (first, rest) = self.words.split_first().unwrap_or((&0, &[]));
        self.words = rest;
        *first
    }

    fn real(&mut self) -> f64 {
        if !self.variant.is_f64() {
            return f32::from_bits(self.word()).into();
        }
        let low = u64::from(self.word());
        f64::from_bits(low | u64::from(self.word()) << 32)
    }
}

/// The sums that a record holds.
pub(crate) fn sums(words: &[u32], variant: Variant) -> Sums {
    let mut reader = Reader { words, variant };
    let [g, p, q, d] = [(); 4].map(|()| reader.real());
    let top = reader.word();
    let (infinite, huge) = match variant.is_f64() {
        true => ((f64::INFINITE >> 32) as u32, (f64::HUGE >> 32) as u32),
        false => (f32::INFINITE, f32::HUGE),
    };
    // The f32 kernel leaves out what a p among the subnormal numbers adds beside q.
    let slight = !variant.is_f64() && g > 0.0 && g < f32::FAINT;
    Sums {
        g,
        p,
        q,
        d,
        infinite: proof(words).flags & SOME_INFINITE != 0,
        invalid: top >= infinite,
        huge: top >= huge || slight,
    }
}

/// The node that a record holds, and whether the shader left it to the host.
pub(crate) fn node(words: &[u32], variant: Variant) -> (Node, bool) {
    let mut reader = Reader { words, variant };
    let masses = [(); 2].map(|()| reader.real());
    let exponents = [(); 2].map(|()| reader.word() as i32);
    let flags = proof(words).flags;
    let node = Node {
        masses,
        scales: exponents.map(|exponent| f64::from(exponent) * std::f64::consts::LN_2),
        scale_rests: [0.0; 2],
        ln_ratio: [(); 2].map(|()| reader.real()),
        g: reader.real(),
        infinite: flags & SOME_INFINITE != 0,
        invalid: flags & SOME_INVALID != 0,
    };
    let masked = flags & SOME_MASKED != 0 && node.masses.contains(&0.0);
    (node, masked || flags & SOME_HUGE != 0)
}

/// The sums of terms that a record holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub sums: [f64; 4],
    /// The mass of P in bins that Q lacks, and the other way round, and whether there are such bins.
    pub only: [f64; 2],
    pub alone: [bool; 2],
    /// Whether some bin has both.
    pub both: bool,
    pub largest: f64,
    /// Some bin is left to the host.
    pub huge: bool,
}

/// The terms that a record holds.
pub(crate) fn terms(words: &[u32], variant: Variant) -> Terms {
    let mut reader = Reader { words, variant };
    let flags = proof(words).flags;
    Terms {
        sums: [(); 4].map(|()| reader.real()),
        only: [(); 2].map(|()| reader.real()),
        largest: reader.real(),
        alone: [SOME_INFINITE, SOME_OF_Q_ALONE].map(|alone| flags & alone != 0),
        both: flags & SOME_OF_BOTH != 0,
        huge: flags & SOME_HUGE != 0,
    }
}

/// The sums of pairs that a record holds: of four rows of P, each against four of Q.
pub(crate) fn pairs(words: &[u32]) -> impl Iterator<Item = [f32; 4]> + '_ {
    words.as_chunks().0.iter().take(4).map(|row: &[u32; 4]| row.map(f32::from_bits))
}

/// The results of a row from its record; from a closer look in f64 where its digits do not do.
pub(crate) fn settle<T: Element>(
    words: &[u32],
    variant: Variant,
    batch: &Batch<'_, T>,
    row: usize,
) -> Row<T::Value> {
    if variant.family == Family::Sums {
        return sums::settle(batch, row, &sums(words, variant));
    }
    let (node, huge) = node(words, variant);
    if !node.invalid && (huge || chain::lacks_digits(batch, row, &node, variant.is_f64())) {
        let closer = chain::settle(batch, row, &chain::node(batch, row));
        return Row { looked_closer: true, ..closer };
    }
    chain::settle(batch, row, &node)
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
        let words = vec![1, 2, 40, 0, 7, 1, 2, 3, 0, 7];
        let mut records = Records { words, record_bytes: 20, ticket: 7 };
        assert_eq!(records.verify(|at| [40, 3][at]), Ok(()));
        assert!(records.verify(|_| 40).is_err());
        records.stamp(8);
        assert_eq!(records.words, [1, 2, 40, 0, 8, 1, 2, 3, 0, 8]);
        assert_eq!(records.verify(|at| [40, 3][at]), Ok(()));
    }
}

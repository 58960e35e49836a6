//! The largest entries and a tail, against whole distributions.

use half::bf16;
use kullback::top_k::TopK;
use kullback::{Batch, Divergence, Engine, Error, Kind, Rule, Side};
use ndarray::{Array2, array};

use crate::compare::close;
use crate::data::distributions;

/// The `k` largest entries of each row, the largest first.
fn largest(rows: &Array2<f64>, k: usize) -> (Array2<u32>, Array2<f64>) {
    let mut indices = Array2::zeros((rows.nrows(), k));
    for (row, mut of_row) in rows.rows().into_iter().zip(indices.rows_mut()) {
        let mut bins: Vec<u32> = (0..row.len() as u32).collect();
        bins.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        of_row.iter_mut().zip(bins).for_each(|(to, bin)| *to = bin);
    }
    let values =
        Array2::from_shape_fn(indices.dim(), |(row, at)| rows[[row, indices[[row, at]] as usize]]);
    (indices, values)
}

fn values(divergence: Divergence, batch: &Batch<'_, f64>) -> Vec<f64> {
    Engine::cpu().rows(divergence, batch).unwrap().values.to_vec()
}

#[test]
fn of_all_entries_nothing_is_lost() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(5, 30, 1), distributions(5, 30, 2));
    let (indices, top) = largest(&p, 30);
    let logs = top.mapv(f64::ln);
    let logits = q.mapv(|q| 2.0 * q.ln() - 7.0);
    let whole = values(Divergence::Kl, &Batch::probs(&p, &q).unwrap());
    let tailed = [
        TopK::new(Kind::Probs, &indices, &top).unwrap().beside(Kind::Probs, &q, 1.0),
        TopK::new(Kind::LogProbs, &indices, &logs).unwrap().beside(Kind::Logits, &logits, 2.0),
    ];
    for tailed in tailed.map(Result::unwrap) {
        assert_eq!(tailed.p.dim(), (5, 31));
        for (got, want) in values(Divergence::Kl, &tailed.batch().unwrap()).iter().zip(&whole) {
            assert!(close(*got, *want, 1e-12), "{got} for {want}");
        }
    }
}

/// The bound gets no worse with more entries, and holds for every f-divergence.
#[test]
fn more_entries_come_closer_from_below() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(20, 50, 3), distributions(20, 50, 4));
    for divergence in [Divergence::Kl, Divergence::JensenShannon(0.5), Divergence::ChiSquared] {
        let whole = values(divergence, &Batch::probs(&p, &q).unwrap());
        let mut before = vec![0.0; 20];
        for k in [1, 2, 10, 40, 50] {
            let (indices, top) = largest(&p, k);
            let top = TopK::new(Kind::Probs, &indices, &top).unwrap();
            let tailed = top.beside(Kind::Probs, &q, 1.0).unwrap();
            let now = values(divergence, &tailed.batch().unwrap());
            for row in 0..20 {
                let (less, more) = (before[row] * (1.0 - 1e-12), whole[row] * (1.0 + 1e-12));
                assert!(less <= now[row] && now[row] <= more, "{divergence}, {k}, row {row}");
            }
            before = now;
        }
    }
}

#[test]
fn two_lists_meet_on_what_both_have() {
    let (p_indices, p) = (array![[7_u32, 2, 5]], array![[0.5_f64, 0.2, 0.1]]);
    let (q_indices, q) = (array![[2_u32, 9, 7, 0]], array![[0.4_f64, 0.3, 0.1, 0.0]]);
    let p = TopK::new(Kind::Probs, &p_indices, &p).unwrap();
    let q = TopK::new(Kind::Probs, &q_indices, &q).unwrap();
    let tailed = p.beside_top(&q).unwrap();
    let near = |got: &Array2<f64>, want: [f64; 4]| {
        got.dim() == (1, 4) && got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-15)
    };
    // Bins 2 and 7, none, and the tails: 0.2 and 0.1 of bin 5; 0.2 and 0.3 of bin 9.
    assert!(near(&tailed.p, [0.2, 0.5, 0.0, 0.3]), "{tailed:?}");
    assert!(near(&tailed.q, [0.4, 0.1, 0.0, 0.5]), "{tailed:?}");
}

/// Entries in 16 bits may sum to a little more than 1, and are still compared.
#[test]
fn lists_of_a_little_more_than_1_are_compared() {
    let (indices, values) = (array![[1_u32, 0], [0, 1]], array![[0.505_f64, 0.505], [0.7, 0.305]]);
    let q = array![[0.25_f64, 0.25, 0.5], [0.25, 0.25, 0.5]];
    let top = TopK::new(Kind::Probs, &indices, &values).unwrap();
    let tailed = top.beside(Kind::Probs, &q, 1.0).unwrap();
    let outcome = Engine::cpu().rows(Divergence::Kl, &tailed.batch().unwrap()).unwrap();
    // Both halves of P, divided by its mass, against quarters.
    assert!(close(outcome.values[0], 2.0_f64.ln(), 1e-14), "{outcome:?}");
}

/// Where that can have come from rounding, and is more than a mass may lack.
#[test]
fn what_lists_in_16_bits_leave_is_their_tail_or_little() {
    let q = array![[0.5_f64, 0.4, 0.1]].mapv(bf16::from_f64);
    for (second, tail) in [(0.488_281_25, 0.011_718_75), (0.492_187_5, 0.0)] {
        let (indices, values) = (array![[0_u32, 1]], array![[0.5, second]].mapv(bf16::from_f64));
        let top = TopK::new(Kind::Probs, &indices, &values).unwrap();
        let tailed = top.beside(Kind::Probs, &q, 1.0).unwrap();
        assert_eq!(tailed.p[[0, 2]], tail);
        let outcome = Engine::cpu().rows(Divergence::Kl, &tailed.batch().unwrap());
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

#[test]
fn a_small_tail_of_q_has_its_digits() {
    let (indices, top) = (array![[1_u32]], array![[0.999_f64]]);
    let logits = array![[-40.0_f64, 0.0, -41.0]];
    let top = TopK::new(Kind::Probs, &indices, &top).unwrap();
    let tailed = top.beside(Kind::Logits, &logits, 1.0).unwrap();
    assert!(close(tailed.q[[0, 1]], (-40.0_f64).exp() + (-41.0_f64).exp(), 1e-14));
}

#[test]
fn what_is_no_list_of_entries_is_named() {
    let q = array![[0.25_f64, 0.25, 0.5], [0.25, 0.25, 0.5]];
    let error = |indices: [u32; 2], values: [f64; 2]| {
        let (indices, values) = (array![[0, 1], indices], array![[0.5, 0.25], values]);
        let top = TopK::new(Kind::Probs, &indices, &values).unwrap();
        match top.beside(Kind::Probs, &q, 1.0) {
            Err(Error::Invalid(at)) => {
                assert_eq!((at.side, at.row), (Side::P, 1));
                (at.rule, at.bin, at.to_string())
            }
            other => panic!("{other:?}"),
        }
    };
    let (rule, bin, message) = error([0, 3], [0.5, 0.25]);
    assert_eq!((rule, bin), (Rule::Index, Some(1)));
    assert_eq!(
        message,
        "P row 1, entry 1: the index is 3; an index is less than the number of bins"
    );
    let (rule, _, message) = error([2, 2], [0.5, 0.25]);
    assert_eq!(rule, Rule::Repeated);
    assert_eq!(message, "P row 1: the index 2 comes twice; no bin has more than one entry");
    assert_eq!(error([0, 1], [0.75, 0.5]).0, Rule::Excess);
    assert_eq!(error([0, 1], [0.75, f64::NAN]).0, Rule::NotANumber);
    assert_eq!(error([0, 1], [0.75, -0.5]).0, Rule::Negative);
    // An entry without mass stands for none, whatever its index.
    let (indices, values) = (array![[0_u32, 77]], array![[0.5_f64, 0.0]]);
    let top = TopK::new(Kind::Probs, &indices, &values).unwrap();
    let one = array![[0.25_f64, 0.75]];
    assert_eq!(top.beside(Kind::Probs, &one, 1.0).unwrap().p, array![[0.5, 0.0, 0.5]]);
    assert!(matches!(top.beside(Kind::Probs, &q, 1.0), Err(Error::Shape { .. })));
    let masked = array![[f64::NEG_INFINITY, f64::NEG_INFINITY]];
    let Err(Error::Invalid(at)) = top.beside(Kind::Logits, &masked, 1.0) else { panic!() };
    assert_eq!((at.side, at.rule), (Side::Q, Rule::NoMass));
    assert!(matches!(TopK::new(Kind::Logits, &indices, &values), Err(Error::Unsupported { .. })));
    assert!(TopK::new(Kind::Probs, &array![[0_u32]], &values).is_err());
}

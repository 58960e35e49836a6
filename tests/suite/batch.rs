//! What a batch takes, and what it refuses before anything is computed.

use kullback::{Batch, Error, Mass, Side};
use ndarray::{Array2, array};

fn shape_error(p: (usize, usize), q: (usize, usize)) -> Error {
    let (p, q) = (Array2::<f32>::zeros(p), Array2::<f32>::zeros(q));
    Batch::probs(&p, &q).unwrap_err()
}

#[test]
fn shapes_that_cannot_be_paired_are_refused() {
    for (p, q) in [
        ((2, 3), (2, 4)),
        ((2, 3), (3, 3)),
        ((0, 3), (2, 3)),
        ((1, 2), (1, 3)),
        ((2, 0), (2, 3)),
        ((2, 3), (2, 0)),
    ] {
        assert_eq!(shape_error(p, q), Error::Shape { p, q });
    }
    assert_eq!(
        shape_error((2, 3), (2, 4)).to_string(),
        "P is 2 × 3 and Q is 2 × 4 (rows × bins): both need the same bins, and the same rows \
         unless one of them has a single row"
    );
}

#[test]
fn rows_without_bins_are_refused() {
    assert_eq!(shape_error((2, 0), (2, 0)), Error::NoBins);
    assert_eq!(shape_error((1, 0), (5, 0)), Error::NoBins);
    let none = Array2::<f32>::zeros((0, 0));
    assert_eq!(Batch::probs(&none, &none).unwrap().rows(), 0);
}

#[test]
fn a_single_row_is_paired_with_every_row() {
    let (many, one) = (array![[1.0_f32, 0.0], [0.5, 0.5], [0.0, 1.0]], array![[0.25_f32, 0.75]]);
    let batch = Batch::probs(&many, &one).unwrap();
    assert_eq!((batch.rows(), batch.bins()), (3, 2));
    assert_eq!(batch.row(Side::P, 2), many.row(2));
    assert_eq!(batch.row(Side::Q, 2), one.row(0));
    let batch = Batch::probs(&one, &many).unwrap();
    assert_eq!(batch.row(Side::P, 1), one.row(0));
    assert_eq!(batch.row(Side::Q, 1), many.row(1));
    // A single row against none: there is nothing to compare it with.
    let none = Array2::<f32>::zeros((0, 2));
    assert_eq!(Batch::probs(&one, &none).unwrap().rows(), 0);
}

#[test]
fn a_slice_keeps_the_reading_and_the_single_row() {
    let (many, one) = (array![[1.0_f32, 0.0], [0.5, 0.5], [0.0, 1.0]], array![[0.25_f32, 0.75]]);
    let batch = Batch::probs(&many, &one).unwrap().with_mass(Mass::AsGiven);
    let slice = batch.slice(1..3);
    assert_eq!((slice.rows(), slice.mass()), (2, Mass::AsGiven));
    assert_eq!(slice.row(Side::P, 0), many.row(1));
    assert_eq!(slice.row(Side::Q, 1), one.row(0));
    assert_eq!(slice.slice(1..2).row(Side::P, 0), many.row(2));
    assert_eq!(batch.slice(1..1).rows(), 0);
}

#[test]
#[should_panic(expected = "rows 1..4 of a batch of 3")]
fn a_slice_past_the_end_panics() {
    let p = Array2::<f32>::zeros((3, 2));
    let _ = Batch::probs(&p, &p).unwrap().slice(1..4);
}

#[test]
fn tolerances_outside_their_range_are_refused() {
    let p = array![[1.0_f32]];
    let batch = Batch::probs(&p, &p).unwrap();
    for tolerance in [-1e-9, 1.0, f64::NAN, f64::INFINITY] {
        let error = batch.with_mass_tolerance(tolerance).unwrap_err();
        let message =
            format!("mass tolerance is {tolerance}: it must be 0 or more and less than 1");
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(batch.with_mass_tolerance(0.0).unwrap().mass_tolerance(), 0.0);
}

#[test]
fn names_are_read_back() {
    for mass in Mass::ALL {
        assert_eq!(mass.to_string().parse(), Ok(*mass));
    }
    for divergence in kullback::Divergence::ALL {
        assert_eq!(divergence.to_string().parse(), Ok(*divergence));
    }
    assert_eq!(
        "normalise".parse::<Mass>().unwrap_err().to_string(),
        "unknown mass policy 'normalise': expected one of check, normalize, as-given, generalized"
    );
}

#[test]
#[should_panic(expected = "row 3 of a batch of 3")]
fn a_row_past_the_end_panics_on_the_single_side_too() {
    let (many, one) = (Array2::<f32>::zeros((3, 2)), Array2::<f32>::zeros((1, 2)));
    let _ = Batch::probs(&many, &one).unwrap().row(Side::Q, 3);
}

#[test]
#[should_panic(expected = "rows 2..1 of a batch of 3")]
#[expect(clippy::reversed_empty_ranges)]
fn a_backward_slice_panics() {
    let p = Array2::<f32>::zeros((3, 2));
    let _ = Batch::probs(&p, &p).unwrap().slice(2..1);
}

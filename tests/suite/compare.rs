//! The comparator, and its own tests: it is what all others lean on.

/// What the stated accuracy allows for f32 data, relative to the exact value.
pub const F32: f64 = 5e-7;
/// The same where a side is logarithms.
pub const LOGS: f64 = 2e-6;
/// The same for f64 data.
pub const F64: f64 = 1e-14;

/// Whether a value is the wanted one up to a relative error. There is no absolute tolerance: 0 is
/// matched by 0 alone, and +inf by +inf.
pub fn close(got: f64, want: f64, tolerance: f64) -> bool {
    // Written so that NaN on either side is not close to anything.
    got == want || (got - want).abs() <= tolerance * want.abs() && want.is_finite()
}

/// Holds a list of values against the wanted ones, and says which is worst.
pub fn assert_close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: the number of rows");
    let wrong = |&row: &usize| !close(got[row], want[row], tolerance);
    let off = |row: usize| (got[row] - want[row]).abs() / want[row].abs();
    let worst = (0..got.len()).filter(wrong).max_by(|&a, &b| f64::total_cmp(&off(a), &off(b)));
    if let Some(row) = worst {
        panic!(
            "{what}: row {row} is {:e}, not {:e}: off by {:e}, and {tolerance:e} is allowed",
            got[row],
            want[row],
            off(row)
        );
    }
}

#[test]
fn accepts_what_is_right() {
    assert!(close(1.0, 1.0, 0.0));
    assert!(close(1.0 + 1e-7, 1.0, 2e-7));
    assert!(close(1.0 - 1e-7, 1.0, 2e-7));
    assert!(close(0.0, 0.0, 1e-7));
    assert!(close(f64::INFINITY, f64::INFINITY, 1e-7));
    assert_close(&[1.0, 0.0], &[1.0, 0.0], 0.0, "two rows");
}

#[test]
fn rejects_what_is_wrong() {
    for (got, want) in [
        (f64::NAN, 1.0),
        (1.0, f64::NAN),
        (f64::NAN, f64::NAN),
        (-1.0, 1.0),
        (0.0, 1.0),
        (0.0, 1e-13),
        (1e-300, 0.0),
        (-1e-300, 0.0),
        (f64::INFINITY, 1.0),
        (f64::MAX, f64::INFINITY),
        (1.0, f64::INFINITY),
        (f64::NEG_INFINITY, f64::INFINITY),
        (1.0 + 3e-7, 1.0),
        (1.0 - 3e-7, 1.0),
        (1.003e-12, 1e-12),
    ] {
        assert!(!close(got, want, 2e-7), "{got} for {want}");
    }
}

#[test]
#[should_panic(expected = "row 2 is 3e0, not 2e0")]
fn rejects_rows_moved_by_one() {
    assert_close(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], 1e-3, "rows");
}

#[test]
#[should_panic(expected = "number of rows")]
fn rejects_missing_rows() {
    assert_close(&[1.0], &[1.0, 1.0], 1e-3, "rows");
}

#[test]
#[should_panic(expected = "row 3 is 0e0")]
fn rejects_all_zeros() {
    assert_close(&[0.0; 4], &[1e-9; 4], 1e-3, "rows");
}

#[test]
#[should_panic(expected = "row 2 is NaN")]
fn rejects_nan_among_good_rows() {
    assert_close(&[1.0, 2.0, f64::NAN], &[1.0, 2.0, 3.0], 1e-3, "rows");
}

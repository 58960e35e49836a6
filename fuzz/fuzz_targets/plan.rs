//! Any shape under any limits: refused, or cut so that every bin of every row is there exactly once
//! and every dispatch keeps to the limits.

#![no_main]

use arbitrary::Arbitrary;
use kullback::Error;
use kullback::plan::{Chunk, Dispatch, Layout, Limits, Plan, QUAD, Shape};
use libfuzzer_sys::fuzz_target;

/// Chunks that are looked at one by one.
const WALKED: usize = 512;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Also ones that are as small as most, which no fuzzer would find by chance.
    small: bool,
    rows: u64,
    bins: u64,
    bin_bytes: u8,
    record_words: u8,
    binding_bytes: u64,
    grid: u32,
    workgroup: u8,
    lanes: u8,
    odd: u8,
    chunk_bytes: u64,
}

fuzz_target!(|input: Input| {
    let size = |number: u64, small: u64| if input.small { number % small } else { number };
    // Mostly powers of two, and at times others.
    let power = |exponent: u8| match input.odd {
        0 => u32::from(exponent),
        _ => 1_u32.checked_shl(exponent.into()).unwrap_or(0),
    };
    let layout = Layout {
        bin_bytes: [2, 4, 8, 0][usize::from(input.bin_bytes) % 4],
        record_bytes: 4 * (usize::from(input.record_words) % 17),
    };
    let rows = size(input.rows, 5_000) as usize;
    let shape = Shape { rows, bins: size(input.bins, 1 << 20) as usize, layout };
    let limits = Limits {
        binding_bytes: size(input.binding_bytes, 1 << 24),
        grid: size(input.grid.into(), 70_000) as u32,
        workgroup_size: power(input.workgroup),
        lanes: power(input.lanes),
        chunk_bytes: size(input.chunk_bytes, 1 << 24),
    };
    match Plan::new(shape, limits) {
        Ok(plan) => check(&plan),
        Err(Error::TooLong { bins, most }) => assert!(bins == shape.bins && most < bins),
        Err(Error::Setting { rule, .. }) => assert!(!rule.is_empty()),
        Err(error) => panic!("{error}"),
    }
});

fn check(plan: &Plan) {
    let Shape { rows, bins, .. } = plan.shape;
    assert!(plan.segment_bins > 0 && plan.segment_bins.is_multiple_of(QUAD));
    if rows == 0 {
        assert_eq!(plan.chunks().next(), None);
        return;
    }
    assert_eq!(plan.segments, bins.div_ceil(plan.segment_bins).max(1));
    let first = plan.chunks().next().expect("there are rows");
    check_walk(plan);
    if first.whole_rows {
        // Each but the last is like the first, and the last like the only one of so many rows.
        let rest = rows % first.rows.len();
        let tail = Shape { rows: if rest > 0 { rest } else { first.rows.len() }, ..plan.shape };
        let tail = Plan::new(tail, plan.limits).expect("fewer rows");
        assert_eq!(tail.chunks().count(), 1);
        check_walk(&tail);
    } else {
        // Every row is cut alike.
        let one = Plan::new(Shape { rows: 1, ..plan.shape }, plan.limits).expect("fewer rows");
        assert_eq!(one.chunks().next(), Some(first));
        check_walk(&one);
    }
    check_merges(plan, 1);
}

/// Goes over the first chunks, and says whether they are all where they should be.
fn check_walk(plan: &Plan) {
    let Shape { rows, bins, .. } = plan.shape;
    let (mut row, mut bin) = (0, 0);
    let mut whole = true;
    for (at, chunk) in plan.chunks().enumerate() {
        if at == WALKED {
            whole = false;
            break;
        }
        assert_eq!((chunk.rows.start, chunk.bins.start), (row, bin));
        assert_eq!(chunk.bins.start, chunk.segments.start * plan.segment_bins);
        assert!(!chunk.rows.is_empty() && !chunk.segments.is_empty());
        assert!(chunk.whole_rows || chunk.rows.len() == 1);
        assert_eq!(chunk.whole_rows, chunk.bins.len() == bins);
        (row, bin) = match chunk.bins.end == bins {
            true => (chunk.rows.end, 0),
            false => (row, chunk.bins.end),
        };
        check_chunk(plan, &chunk);
    }
    assert!(!whole || (row, bin) == (rows, 0), "{row} of {rows} rows, {bin} of {bins} bins");
}

fn check_chunk(plan: &Plan, chunk: &Chunk) {
    let Layout { bin_bytes, record_bytes } = plan.shape.layout;
    let padded = chunk.bins.len().next_multiple_of(QUAD);
    let bytes = chunk.rows.len() as u128 * padded as u128 * bin_bytes as u128;
    assert!(bytes <= plan.limits.binding_bytes.into(), "{bytes} bytes in {chunk:?}");
    let dispatch = plan.dispatch(chunk);
    let units = chunk.rows.len() as u128 * chunk.segments.len() as u128;
    assert_eq!(u128::from(dispatch.units), units);
    assert!(units * record_bytes as u128 <= plan.limits.binding_bytes.into());
    check_dispatch(plan, dispatch);
    assert!(dispatch.lanes == 1 || dispatch.form.shared);
    assert_eq!(dispatch.form.split, chunk.segments.len() > 1);
    assert!([1, 2, 4].contains(&dispatch.form.loads));
    if chunk.whole_rows {
        check_merges(plan, chunk.rows.len());
        check_dispatch(plan, plan.rowwise(chunk.rows.len()));
    }
}

/// The rounds that merge so many rows, until each has one record.
fn check_merges(plan: &Plan, rows: usize) {
    let mut records = plan.segments;
    for merge in plan.merges(rows) {
        assert_eq!(merge.before as usize, records);
        assert_eq!(merge.after as usize, records.div_ceil(merge.fan as usize));
        let units = rows as u128 * u128::from(merge.after);
        assert_eq!(u128::from(merge.dispatch.units), units);
        check_dispatch(plan, merge.dispatch);
        records = merge.after as usize;
    }
    assert_eq!(records, 1);
}

fn check_dispatch(plan: &Plan, dispatch: Dispatch) {
    let Limits { grid, workgroup_size, .. } = plan.limits;
    assert!(dispatch.lanes.is_power_of_two() && dispatch.lanes <= workgroup_size);
    assert!(dispatch.grid.iter().all(|side| (1..=grid).contains(side)), "{dispatch:?}");
    let groups = u64::from(dispatch.grid[0]) * u64::from(dispatch.grid[1]);
    let units_per_group = u64::from(workgroup_size / dispatch.lanes);
    assert!(u128::from(groups) * u128::from(units_per_group) >= dispatch.units.into());
}

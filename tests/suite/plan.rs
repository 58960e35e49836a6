//! The plan: every bin exactly once, within every limit.

use kullback::Error;
use kullback::plan::{Form, Layout, Limits, Plan, QUAD, Shape};

const LAYOUT: Layout = Layout::F32;
const RECORD_BYTES: usize = LAYOUT.record_bytes;
use proptest::prelude::*;

const LAVAPIPE: Limits = Limits {
    binding_bytes: 128 << 20,
    grid: 65_535,
    workgroup_size: 16,
    lanes: 16,
    chunk_bytes: 32 << 20,
};

fn plan(rows: usize, bins: usize, limits: Limits) -> Plan {
    Plan::new(Shape { rows, bins, layout: LAYOUT }, limits).unwrap()
}

/// Holds a plan against its limits, whatever they are.
fn check(plan: &Plan) {
    let Limits { binding_bytes, workgroup_size, .. } = plan.limits;
    let Shape { rows, bins, .. } = plan.shape;
    let fits = |bytes: usize| bytes as u64 <= binding_bytes;
    assert!(plan.segment_bins.is_multiple_of(QUAD));
    assert!(plan.lanes.is_power_of_two() && plan.lanes <= workgroup_size);
    let (mut row, mut bin) = (0, 0);
    for chunk in plan.chunks() {
        // The next rows from their first bin on, or the next bins of the row that was begun.
        assert_eq!((chunk.rows.start, chunk.bins.start), (row, bin));
        assert_eq!(chunk.bins.start, chunk.segments.start * plan.segment_bins);
        assert!(!chunk.rows.is_empty() && !chunk.segments.is_empty());
        assert_eq!(chunk.whole_rows, chunk.bins.len() == bins);
        assert!(chunk.whole_rows || chunk.rows.len() == 1);
        (row, bin) =
            if chunk.bins.end == bins { (chunk.rows.end, 0) } else { (row, chunk.bins.end) };

        assert!(fits(chunk.rows.len() * chunk.bins.len().next_multiple_of(QUAD) * 4), "{chunk:?}");
        let dispatch = plan.dispatch(&chunk);
        assert_eq!(dispatch.units as usize, chunk.rows.len() * chunk.segments.len());
        check_dispatch(plan, dispatch);
        if dispatch.form.whole {
            let trip = dispatch.lanes as usize * dispatch.form.loads as usize * QUAD;
            let of_segments = [plan.segment_bins.min(bins), bins % plan.segment_bins];
            assert!(of_segments.iter().all(|bins| bins.is_multiple_of(trip)), "{plan:?}");
        }
        assert!(fits(dispatch.units as usize * RECORD_BYTES));
        if chunk.whole_rows {
            check_merges(plan, chunk.rows.len());
        }
    }
    assert_eq!((row, bin), (if bins == 0 { 0 } else { rows }, 0));

    check_merges(plan, 1);
}

/// The rounds that merge so many rows, until each has one record.
fn check_merges(plan: &Plan, rows: usize) {
    let mut records = plan.segments;
    for merge in plan.merges(rows) {
        assert_eq!(merge.before as usize, records);
        assert_eq!(merge.after as usize, records.div_ceil(merge.fan as usize));
        assert_eq!(merge.dispatch.units as usize, rows * merge.after as usize);
        check_dispatch(plan, merge.dispatch);
        assert!((rows * records * RECORD_BYTES) as u64 <= plan.limits.binding_bytes);
        // What an invocation adds up one after the other.
        assert!(merge.before.min(merge.fan).div_ceil(merge.dispatch.lanes) <= 4);
        records = merge.after as usize;
    }
    assert_eq!(records, 1);
}

fn check_dispatch(plan: &Plan, dispatch: kullback::plan::Dispatch) {
    let groups = dispatch.grid[0] as u64 * dispatch.grid[1] as u64;
    let units_per_group = u64::from(plan.limits.workgroup_size / dispatch.lanes);
    assert!(groups * units_per_group >= u64::from(dispatch.units), "{dispatch:?}");
    assert!(dispatch.grid.iter().all(|&side| side <= plan.limits.grid), "{dispatch:?}");
    assert!(dispatch.lanes.is_power_of_two() && dispatch.lanes <= plan.limits.workgroup_size);
    assert_eq!(dispatch.form.shared, dispatch.lanes > 1);
}

#[test]
fn short_rows_share_workgroups_and_chunks() {
    let plan = plan(1_000_000, 10, LAVAPIPE);
    check(&plan);
    assert_eq!((plan.segments, plan.lanes), (1, 1));
    // 32 MiB of rows of 48 bytes.
    assert_eq!(plan.chunks().next().map(|chunk| chunk.rows), Some(0..699_050));
    assert_eq!(plan.chunks().count(), 2);
}

#[test]
fn longer_rows_have_more_lanes() {
    let limits = Limits { workgroup_size: 256, lanes: 256, ..LAVAPIPE };
    for (bins, lanes) in
        [(32, 1), (64, 2), (128, 2), (256, 4), (512, 8), (1_024, 8), (2_048, 16), (4_096, 32)]
    {
        assert_eq!(plan(10, bins, limits).lanes, lanes, "{bins} bins");
    }
    assert_eq!(plan(10, 70_000, limits).segment_bins, 65_536);
}

#[test]
fn where_barriers_are_dear_each_invocation_has_a_unit_to_itself() {
    let limits = Limits { workgroup_size: 64, lanes: 1, ..LAVAPIPE };
    let cases = [
        (4, 1, 1, true),
        (8, 1, 2, true),
        (9, 1, 4, false),
        (12, 1, 4, false),
        (1_024, 1, 4, true),
        (2_049, 3, 4, false),
        (2_064, 3, 4, true),
    ];
    for (bins, segments, loads, whole) in cases {
        let plan = plan(1_000, bins, limits);
        check(&plan);
        assert_eq!((plan.segments, plan.lanes), (segments, 1), "{bins} bins");
        let chunk = plan.chunks().next().unwrap();
        let dispatch = plan.dispatch(&chunk);
        assert_eq!(
            dispatch.form,
            Form { shared: false, split: segments > 1, loads, whole },
            "{bins} bins"
        );
        assert!(plan.merges(1).iter().all(|merge| !merge.dispatch.form.shared));
    }
    check(&plan(2, 20_000_000, limits));
}

#[test]
fn medium_rows_take_a_workgroup_each() {
    let plan = plan(100, 4_096, LAVAPIPE);
    check(&plan);
    assert_eq!((plan.segments, plan.lanes, plan.segment_bins), (1, 16, 4_096));
    assert_eq!(plan.chunks().count(), 1);
    assert_eq!(plan.merges(100), []);
}

#[test]
fn long_rows_are_cut_into_segments_and_merged() {
    let plan = plan(3, 4_097, LAVAPIPE);
    check(&plan);
    assert_eq!(plan.segments, 2);
    let merges = plan.merges(3);
    assert_eq!(merges.len(), 1);
    assert_eq!((merges[0].before, merges[0].after, merges[0].dispatch.units), (2, 1, 3));
}

#[test]
fn rows_longer_than_a_chunk_are_cut_into_chunks() {
    let plan = plan(2, 20_000_000, LAVAPIPE);
    check(&plan);
    assert!(plan.chunks().all(|chunk| chunk.rows.len() == 1 && !chunk.whole_rows));
    assert_eq!(plan.chunks().count(), 2 * 3);
    assert_eq!(plan.merges(1).len(), 3);
}

#[test]
fn a_row_that_just_fits_is_one_chunk() {
    // Two full segments would be too long.
    let plan = plan(3, 4_097, Limits { chunk_bytes: 4 * 4_100, ..LAVAPIPE });
    check(&plan);
    assert!(plan.chunks().all(|chunk| chunk.whole_rows));
    assert_eq!(plan.chunks().count(), 3);
}

#[test]
fn wide_grids_become_two_dimensional() {
    let plan = plan(2_000_000, 4, LAVAPIPE);
    check(&plan);
    let dispatch = plan.dispatch(&plan.chunks().next().unwrap());
    assert_eq!(dispatch.grid, [65_535, 2]);
}

#[test]
fn rows_beyond_all_limits_are_an_error() {
    let limits =
        Limits { binding_bytes: 2048, grid: 2, workgroup_size: 2, lanes: 2, chunk_bytes: 2048 };
    // 4 workgroups that merge 8 records each of 512 bins.
    let error = Plan::new(Shape { rows: 1, bins: 16_385, layout: LAYOUT }, limits).unwrap_err();
    assert_eq!(error, Error::TooLong { bins: 16_385, most: 16_384 });
    check(&plan(1, 16_384, limits));
    // Shaders count the bins of a row in 32 bits.
    let roomy = Limits { binding_bytes: 1 << 31, ..LAVAPIPE };
    let bins = u32::MAX as usize + 1;
    let error = Plan::new(Shape { rows: 1, bins, layout: LAYOUT }, roomy).unwrap_err();
    assert_eq!(error, Error::TooLong { bins, most: bins - 1 });
}

#[test]
fn limits_that_leave_no_room_are_refused() {
    for (limits, message) in [
        (Limits { binding_bytes: 16, ..LAVAPIPE }, "binding size is 16: it must hold a record"),
        (Limits { grid: 0, ..LAVAPIPE }, "grid is 0: a dispatch has at least one workgroup"),
        (
            Limits { workgroup_size: 0, ..LAVAPIPE },
            "workgroup size is 0: it must be a power of two, for the tree of sums",
        ),
        (
            Limits { workgroup_size: 48, ..LAVAPIPE },
            "workgroup size is 48: it must be a power of two, for the tree of sums",
        ),
        (
            Limits { lanes: 32, ..LAVAPIPE },
            "number of lanes is 32: it must be a power of two, at most the workgroup size, for the \
             tree of sums",
        ),
    ] {
        let error = Plan::new(Shape { rows: 1, bins: 1, layout: LAYOUT }, limits).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    for (bin_bytes, record_bytes, message) in [
        (4, 0, "record size is 0: it must be at least 1"),
        (0, 32, "bin size is 0: it must be at least 1"),
        (8, 4, "binding size is 31: it must hold a vector load"),
    ] {
        let layout = Layout { bin_bytes, record_bytes };
        let limits = Limits { binding_bytes: 31, ..LAVAPIPE };
        let error = Plan::new(Shape { rows: 1, bins: 1, layout }, limits).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    // A chunk too small for anything holds one unit all the same.
    let plan = plan(3, 100, Limits { chunk_bytes: 0, ..LAVAPIPE });
    check(&plan);
    assert_eq!(plan.chunks().count(), 3);
}

#[test]
fn nothing_needs_no_chunk() {
    assert_eq!(plan(0, 10, LAVAPIPE).chunks().count(), 0);
    assert_eq!(plan(0, 0, LAVAPIPE).chunks().count(), 0);
    assert_eq!(plan(0, usize::MAX, LAVAPIPE).chunks().count(), 0);
}

#[test]
fn the_largest_workgroups_merge_as_well() {
    let lanes = 1 << 31;
    check(&plan(3, 100_000_000, Limits { workgroup_size: lanes, lanes, ..LAVAPIPE }));
}

#[test]
fn segments_do_not_depend_on_rows_or_chunks() {
    for bins in [1, 100, 2_048, 2_049, 1 << 20, 50_000_000] {
        let one = plan(1, bins, LAVAPIPE);
        for (rows, chunk_bytes) in [(2, 1 << 20), (1_000, 32 << 20), (7, 4096)] {
            let other = plan(rows, bins, Limits { chunk_bytes, ..LAVAPIPE });
            assert_eq!(
                (one.segment_bins, one.segments, one.lanes),
                (other.segment_bins, other.segments, other.lanes)
            );
            let merges = |plan: &Plan| {
                plan.merges(1).iter().map(|m| (m.fan, m.dispatch.lanes)).collect::<Vec<_>>()
            };
            assert_eq!(merges(&one), merges(&other));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_shape_under_any_limits(
        rows in 0_usize..3_000,
        bins in prop_oneof![1_usize..20, 1_usize..5_000, 1_usize..300_000],
        binding in 5_u32..24,
        odd in 0_u64..64,
        grid in 1_u32..100,
        workgroup in 0_u32..9,
        lanes in 0_u32..9,
        chunk in 4_u32..24,
    ) {
        let limits = Limits {
            binding_bytes: (1 << binding) + odd,
            grid,
            workgroup_size: 1 << workgroup,
            lanes: 1 << lanes.min(workgroup),
            chunk_bytes: 1 << chunk,
        };
        // Few long rows: the check walks over each chunk.
        let shape = Shape { rows: rows.min(3_000_000 / bins), bins, layout: LAYOUT };
        match Plan::new(shape, limits) {
            Ok(plan) => check(&plan),
            Err(error) => {
                let too_long = matches!(error, Error::TooLong { most, .. } if most < bins);
                prop_assert!(too_long, "{error}");
            }
        }
    }
}

//! How a batch is cut for a device: pure arithmetic, without a device.
//!
//! A row is cut into **segments** of a length that depends on the row's length and the adapter
//! alone. A **unit** is one segment of one row; `lanes` invocations share it and leave one record. The
//! records of a row are then merged, `fan` into one, until one is left. Because none of these numbers
//! knows where a row stands or what lies beside it, the same row gives the same bits in any batch.
//!
//! What fits into one submission is a **chunk**: some whole rows, or some segments of one row
//! that is longer than a binding may be.

use std::ops::Range;

use crate::Error;

/// Bins in one vector load of the shaders.
pub const QUAD: usize = 4;
/// Bytes of the largest record that the invocations of a workgroup merge.
pub const MOST_RECORD_BYTES: usize = 72;
/// Vector loads of a side that an invocation has in flight, in one trip of its loop, at most: where it
/// has a segment to itself. Where others share it, twice as many of them have half as many each.
pub const QUADS_PER_TRIP: usize = 4;
const QUADS_PER_SHARED_TRIP: usize = 2;
/// Trips of one invocation over a full segment. Short chains keep f32 sums accurate, and far below
/// the 65,535 trips after which lavapipe ends a shader without a word.
const TRIPS: usize = 32;
/// The same where an invocation has a segment to itself: still short, but long enough that the
/// records cost little beside the bins.
const TRIPS_ALONE: usize = 64;
/// Vector loads of a side that an invocation takes before others come to its help: what it costs to
/// begin, and to take part in the tree of sums, wants to be spread over some trips.
const QUADS_PER_LANE: usize = 32;
/// Fewer for so many invocations side by side, whose loads fill a line of the cache.
const LANES_PER_LINE: u32 = 8;
const QUADS_PER_LANE_OF_LINE: usize = 16;
/// An invocation by itself takes no more of a row: the lines that those beside it read are far apart.
const QUADS_ALONE: usize = 8;
/// Records that one invocation merges at most.
const RECORDS_PER_LANE: usize = 4;

/// What a device allows, and what suits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest range of a buffer that a shader may see, in bytes.
    pub binding_bytes: u64,
    /// Workgroups in each of the two dimensions of a dispatch.
    pub grid: u32,
    /// Invocations per workgroup: a power of two.
    pub workgroup_size: u32,
    /// Invocations that may share a unit: a power of two, at most the workgroup's size. With 1 the
    /// kernels have no barrier, for adapters to which barriers are dear.
    pub lanes: u32,
    /// Bytes of one side, and of records, to put into one submission, so that it ends within
    /// milliseconds.
    pub chunk_bytes: u64,
}

/// The shape of a batch, as far as the plan is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Results.
    pub rows: usize,
    /// Bins per row.
    pub bins: usize,
    /// What they take on the device.
    pub layout: Layout,
}

/// Bytes on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a bin.
    pub bin_bytes: usize,
    /// Bytes of the record that a unit leaves.
    pub record_bytes: usize,
}

impl Layout {
    /// Probabilities in f32.
    pub const F32: Layout = Layout { bin_bytes: 4, record_bytes: 32 };
}

/// A batch, cut.
///
/// ```
/// use kullback::plan::{Layout, Limits, Plan, Shape};
///
/// let limits = Limits { binding_bytes: 128 << 20, grid: 65_535, workgroup_size: 64, lanes: 1, chunk_bytes: 1 << 20 };
/// let plan = Plan::new(Shape { rows: 1_000, bins: 1_000, layout: Layout::F32 }, limits)?;
/// assert_eq!(plan.segments, 1);
/// assert_eq!(plan.chunks().map(|chunk| chunk.rows.len()).sum::<usize>(), 1_000);
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What was planned for.
    pub shape: Shape,
    /// Under which limits.
    pub limits: Limits,
    /// Bins per segment, a multiple of [`QUAD`]; the last one of a row may have fewer.
    pub segment_bins: usize,
    /// Segments per row.
    pub segments: usize,
    /// Invocations per unit: a power of two, at most the workgroup's size.
    pub lanes: u32,
    /// Vector loads of a side in one trip of an invocation's loop.
    loads: u32,
    /// Whole rows per chunk; 0 if a row is longer than a chunk may be.
    rows_per_chunk: usize,
    /// Segments per chunk, if a row is longer than that.
    segments_per_chunk: usize,
}

/// What one submission works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The rows.
    pub rows: Range<usize>,
    /// Which of their segments: all, or some of a single row.
    pub segments: Range<usize>,
    /// The bins in those segments.
    pub bins: Range<usize>,
    /// Whether these are all the segments there are.
    pub whole_rows: bool,
}

/// One dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Records it writes.
    pub units: u32,
    /// Invocations per unit.
    pub lanes: u32,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// Which specialisation of the kernel.
    pub form: Form,
}

/// A specialisation of a kernel: without what a dispatch has no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Several invocations share a unit.
    pub shared: bool,
    /// A row has several segments.
    pub split: bool,
    /// Vector loads of a side in one trip of an invocation's loop: 1, 2 or 4.
    pub loads: u32,
    /// No trip has loads past the end of its segment, and none of these is of fewer than four bins.
    pub whole: bool,
}

impl Dispatch {
    /// The same by a kernel for any of its kind. Where there is much to do with each bin, a driver takes
    /// longer to compile one more specialisation than that ever saves.
    pub fn unspecialised(self) -> Dispatch {
        Dispatch { form: Form { split: true, loads: 1, whole: false, ..self.form }, ..self }
    }
}

impl Form {
    /// An invocation has a row to itself.
    pub(crate) const ALONE: Form = Form { shared: false, split: false, loads: 1, whole: false };

    /// So many share the parts of a row.
    fn merging(lanes: u32) -> Form {
        Form { shared: lanes > 1, split: true, ..Form::ALONE }
    }
}

/// One round of merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Records per row before.
    pub before: u32,
    /// Records per row after.
    pub after: u32,
    /// Records that become one.
    pub fan: u32,
    /// The dispatch that does it.
    pub dispatch: Dispatch,
}

impl Plan {
    /// Cuts a batch.
    ///
    /// # Errors
    /// [`Error::TooLong`] if the records of a single row exceed a binding;
    /// [`Error::Setting`] if the limits leave no room for anything.
    pub fn new(shape: Shape, limits: Limits) -> Result<Plan, Error> {
        let Layout { bin_bytes, record_bytes } = shape.layout;
        check(limits, shape.layout)?;
        let binding = usize::try_from(limits.binding_bytes).unwrap_or(usize::MAX);
        let chunk = binding.min(usize::try_from(limits.chunk_bytes).unwrap_or(usize::MAX));
        let workgroups = (limits.grid as usize).saturating_mul(limits.grid as usize);
        let records = (binding / record_bytes).min(u32::MAX as usize);

        let bindable = binding / bin_bytes / QUAD * QUAD;
        let (trips, per_trip) = match limits.lanes {
            1 => (TRIPS_ALONE, QUADS_PER_TRIP),
            _ => (TRIPS, QUADS_PER_SHARED_TRIP),
        };
        let segment_bins = (limits.lanes as usize * trips * per_trip * QUAD).min(bindable);
        let mergeable = workgroups.saturating_mul(fan(limits));
        // A record counts its bins in 32 bits.
        let most = records.min(mergeable).saturating_mul(segment_bins).min(u32::MAX as usize);
        if shape.bins > most && shape.rows > 0 {
            return Err(Error::TooLong { bins: shape.bins, most });
        }
        let bins = shape.bins.min(most); // without rows they may be any number
        let segments = bins.div_ceil(segment_bins).max(1);
        let quads = bins.min(segment_bins).div_ceil(QUAD);
        let line = lanes_for(quads, QUADS_PER_LANE_OF_LINE, limits.lanes.min(LANES_PER_LINE));
        let pair = if quads > QUADS_ALONE { limits.lanes.min(2) } else { 1 };
        let lanes = lanes_for(quads, QUADS_PER_LANE, limits.lanes).max(line).max(pair);
        let loads = quads.div_ceil(lanes as usize).clamp(1, per_trip).next_power_of_two();

        let units_in_group = (limits.workgroup_size / lanes) as usize;
        let units = workgroups.saturating_mul(units_in_group).min(records);
        // The records of short rows are larger than their bins.
        let recorded = (chunk / record_bytes / segments).max(1);
        let rows_per_chunk = (chunk / (padded(bins) * bin_bytes).max(1)).min(units / segments);
        let rows_per_chunk = rows_per_chunk.min(recorded);
        let segments_per_chunk = (chunk / (segment_bins * bin_bytes)).clamp(1, units);
        Ok(Plan {
            shape,
            limits,
            segment_bins,
            segments,
            lanes,
            loads: loads as u32,
            rows_per_chunk,
            segments_per_chunk,
        })
    }

    /// The chunks, which cover each bin of each row exactly once.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        let rows = self.rows_per_chunk.max(1);
        let segments =
            if self.rows_per_chunk > 0 { self.segments } else { self.segments_per_chunk };
        (0..self.shape.rows).step_by(rows).flat_map(move |row| {
            (0..self.segments).step_by(segments).map(move |segment| {
                let segments = segment..(segment + segments).min(self.segments);
                let last_bin = (segments.end * self.segment_bins).min(self.shape.bins);
                Chunk {
                    rows: row..(row + rows).min(self.shape.rows),
                    bins: segments.start * self.segment_bins..last_bin,
                    whole_rows: segments.len() == self.segments,
                    segments,
                }
            })
        })
    }

    /// The dispatch that sums the units of a chunk.
    pub fn dispatch(&self, chunk: &Chunk) -> Dispatch {
        let units = chunk.rows.len() * chunk.segments.len();
        let trip_bins = self.lanes as usize * self.loads as usize * QUAD;
        let cut_within_trips = self.segments > 1 && !self.segment_bins.is_multiple_of(trip_bins);
        let form = Form {
            shared: self.lanes > 1,
            split: chunk.segments.len() > 1,
            loads: self.loads,
            whole: self.shape.bins.is_multiple_of(trip_bins) && !cut_within_trips,
        };
        self.grid(units, self.lanes, form)
    }

    /// The rounds that merge each of `rows` rows into one record.
    pub fn merges(&self, rows: usize) -> Vec<Merge> {
        let fan = fan(self.limits);
        let mut merges = Vec::new();
        let mut before = self.segments;
        while before > 1 {
            let after = before.div_ceil(fan);
            let lanes = lanes_for(before.min(fan), RECORDS_PER_LANE, self.limits.lanes);
            merges.push(Merge {
                before: before as u32,
                after: after as u32,
                fan: fan as u32,
                dispatch: self.grid(rows * after, lanes, Form::merging(lanes)),
            });
            before = after;
        }
        merges
    }

    /// The dispatch that gives each of so many rows an invocation.
    pub fn rowwise(&self, rows: usize) -> Dispatch {
        self.grid(rows, 1, Form::ALONE)
    }

    /// Workgroups for so many units, in two dimensions, since one holds only 65,535.
    fn grid(&self, units: usize, lanes: u32, form: Form) -> Dispatch {
        let units_per_group = (self.limits.workgroup_size / lanes) as usize;
        let groups = units.div_ceil(units_per_group);
        let width = groups.min(self.limits.grid as usize).max(1);
        Dispatch {
            units: units as u32,
            lanes,
            grid: [width as u32, groups.div_ceil(width) as u32],
            form,
        }
    }
}

fn check(limits: Limits, layout: Layout) -> Result<(), Error> {
    let least = |name, value: u64, least: u64, rule| match value {
        value if value < least => Err(Error::Setting { name, value: value as f64, rule }),
        _ => Ok(()),
    };
    let (record, load) = (layout.record_bytes as u64, layout.bin_bytes.saturating_mul(QUAD) as u64);
    least("record size", record, 1, "it must be at least 1")?;
    least("bin size", load, 1, "it must be at least 1")?;
    least("binding size", limits.binding_bytes, record, "it must hold a record")?;
    least("binding size", limits.binding_bytes, load, "it must hold a vector load")?;
    least("grid", limits.grid.into(), 1, "a dispatch has at least one workgroup")?;
    let sized = |name, value: u32, fits: bool, rule| match fits && value.is_power_of_two() {
        true => Ok(()),
        false => Err(Error::Setting { name, value: value.into(), rule }),
    };
    let (size, lanes) = (limits.workgroup_size, limits.lanes);
    sized("workgroup size", size, true, "it must be a power of two, for the tree of sums")?;
    let rule = "it must be a power of two, at most the workgroup size, for the tree of sums";
    sized("number of lanes", lanes, lanes <= size, rule)
}

/// So many bins, rounded up to whole vector loads: their place on the device.
pub(crate) fn padded(bins: usize) -> usize {
    bins.next_multiple_of(QUAD)
}

/// Records that become one in a round of merging: a number of 32 bits.
fn fan(limits: Limits) -> usize {
    limits.lanes.saturating_mul(RECORDS_PER_LANE as u32) as usize
}

/// The power of two of invocations that gives each about so many items.
fn lanes_for(items: usize, items_per_lane: usize, most: u32) -> u32 {
    let lanes = items.div_ceil(items_per_lane).next_power_of_two();
    lanes.clamp(1, most as usize) as u32
}

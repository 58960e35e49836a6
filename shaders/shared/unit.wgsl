// Who works on what, and the tree in which the invocations of a unit merge their records.

override WORKGROUP_SIZE: u32 = 64u;
override SHARED: bool = true;   // several invocations may share a unit; else there is no barrier
override SPLIT: bool = true;    // rows may have several segments; else a unit is a row
override LOADS: u32 = 4u;       // vector loads of a side in one trip of the loop: 1, 2 or 4

const SOME_INFINITE: u32 = 1u; // a bin has p > 0 = q
const SOME_STALE: u32 = 2u;    // a merged record was not written by this submission
const SOME_INVALID: u32 = 4u;  // a bin holds nothing of its side's kind
const SOME_HUGE: u32 = 8u;     // a bin is beyond what this arithmetic takes
const SOME_OF_Q_ALONE: u32 = 16u; // a bin has q > 0 = p
const SOME_OF_BOTH: u32 = 32u; // a bin has p > 0 and q > 0

var<workgroup> records: array<Record, WORKGROUP_SIZE>;

// Merges the records of the `lanes` invocations that share a unit, into the one of lane 0.
// `lanes` is a power of two and the same in the whole workgroup.
fn tree_sum(local: u32, lanes: u32) -> Record {
    let lane = local & (lanes - 1u);
    for (var width = lanes / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (lane < width) {
            records[local] = added(records[local], records[local + width]);
        }
    }
    return records[local];
}

// Makes the record of each unit of the dispatch: a kernel's `record_of` that of what one invocation
// takes, `put` whatever is to be left of the whole.
fn reduce(group: vec3<u32>, local: u32) {
    let lanes = select(1u, params.lanes, SHARED);
    let lane = local & (lanes - 1u);
    let unit = unit_of(group, params.line, local, lanes);
    if (SHARED) {
        if (unit < params.units) {
            records[local] = record_of(unit, lane, lanes);
        }
        let record = tree_sum(local, lanes);
        if (lane == 0u && unit < params.units) {
            put(unit, record);
        }
    } else if (unit < params.units) {
        put(unit, record_of(unit, lane, lanes));
    }
}

// The number of the unit that an invocation works on, in a grid whose lines hold `line` groups.
fn unit_of(group: vec3<u32>, line: u32, local: u32, lanes: u32) -> u32 {
    let shift = countTrailingZeros(lanes);
    return (group.y * line + group.x) * (WORKGROUP_SIZE >> shift) + (local >> shift);
}

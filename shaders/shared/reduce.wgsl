// The tree in which the invocations of a unit merge their records.

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

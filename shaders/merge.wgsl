// Second pass, for rows of more than one segment: merges up to `fan` consecutive records of a
// row into one. Run until each row has one record left.
// Host: src/gpu/merge.rs. With shared/put_record.wgsl, or in the last round shared/put_value.wgsl.

struct Params {
    units: u32,    // rows × records per row after this round
    line: u32,     // workgroups in a line of the grid
    lanes: u32,    // invocations that share a unit
    before: u32,   // records per row before this round
    after: u32,    // records per row after it
    fan: u32,      // records that become one
    ticket: u32,   // marks the records of this submission
    zero: u32,     // is 0
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<Record>;            // [rows][before]

fn record_of(unit: u32, lane: u32, lanes: u32) -> Record {
    let row = unit / params.after;
    let first = unit % params.after * params.fan;
    let end = min(first + params.fan, params.before);
    var record = nothing(params.ticket);
    for (var at = first + lane; at < end; at += lanes) {
        let part = parts[row * params.before + at];
        record = added(record, part);
        record.flags |= select(0u, SOME_STALE, part.ticket != params.ticket);
    }
    return record;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn merge(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    reduce(group, local);
}

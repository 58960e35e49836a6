// First pass: makes a record of each unit, one segment of one row.
// Host: src/gpu/rows.rs. With shared/segment_sums.wgsl or shared/segment_chain.wgsl.

struct Params {
    units: u32,          // rows × segments in this dispatch
    line: u32,           // workgroups in a line of the grid
    lanes: u32,          // invocations that share a unit
    segments: u32,       // segments per row
    segment_quads: u32,  // vector loads in a full segment
    bins: u32,           // bins per row
    p_stride: u32,       // vector loads from one row of P to the next; 0 repeats the one row
    q_stride: u32,       // the same for Q
    ticket: u32,         // marks the records of this submission
    p_kind: u32,         // what the numbers of P are: PROBS, LOG_PROBS or LOGITS
    q_kind: u32,
    zero: u32,           // is 0
    per_temperature: vec4<f32>, // 1/T in three parts, of 12 bits and more
    temperature: vec4<f32>,     // T in three parts of 24 bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> sums: array<Record>;       // [rows][segments]

@compute @workgroup_size(WORKGROUP_SIZE)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lanes = select(1u, params.lanes, SHARED);
    let lane = local & (lanes - 1u);
    let unit = unit_of(group, params.line, local, lanes);
    var row = unit;
    var segment = 0u;
    if (SPLIT) {
        row = unit / params.segments;
        segment = unit % params.segments;
    }
    if (SHARED) {
        if (unit < params.units) {
            records[local] = segment_sum(row, segment, lane, lanes);
        }
        let record = tree_sum(local, lanes);
        if (lane == 0u && unit < params.units) {
            sums[unit] = record;
        }
    } else if (unit < params.units) {
        sums[unit] = segment_sum(row, segment, lane, lanes);
    }
}

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
    per_temperature: vec4<f32>, // 1/T in three parts of 12 bits
    temperature: vec4<f32>,     // T in three parts of 24 bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> sums: array<Record>;       // [rows][segments]

// How many bins of the row one vector load holds.
fn bins_in(quad: u32, end: u32) -> u32 {
    return select(0u, min(params.bins - 4u * quad, 4u), quad < end);
}

// Vector loads of one trip of the loop.
const QUADS_PER_TRIP: u32 = 4u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = local & (params.lanes - 1u);
    let unit = unit_of(group, params.line, local, params.lanes);
    if (unit < params.units) {
        records[local] = segment_sum(unit / params.segments, unit % params.segments, lane);
    }
    let record = tree_sum(local, params.lanes);
    if (lane == 0u && unit < params.units) {
        sums[unit] = record;
    }
}

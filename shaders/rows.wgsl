// First pass: makes a record of each unit, one segment of one row.
// Host: src/gpu/rows.rs. With shared/segment_sums.wgsl or shared/segment_chain.wgsl, and with
// shared/put_record.wgsl, or shared/put_value.wgsl where that is all of the row.

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

@compute @workgroup_size(WORKGROUP_SIZE)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    reduce(group, local);
}

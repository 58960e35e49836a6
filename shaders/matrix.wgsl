// All rows against all rows: makes a record of each unit, four rows of P against four of Q over a segment
// of their bins. What is kept of a row was made ready by the host, in f64 and for all of its pairs.
// Host: src/gpu/matrix.rs. With shared/pair_….wgsl, a form of src/cpu/tile.rs.
//
// An invocation reads its rows by itself: those of Q side by side with its neighbours, those of P the same
// as they. There is no shared memory, and so no barrier, which is dear to adapters that are programs.

struct Params {
    p_tiles: u32,        // rows of P in fours
    q_tiles: u32,
    across: u32,         // tiles of Q in the square of tiles that a workgroup takes
    line: u32,           // workgroups in a line of the grid
    segments: u32,       // segments of the bins here
    segment_bins: u32,   // bins in a full segment
    bins: u32,
    ticket: u32,         // marks the records of this submission
    zero: u32,           // is 0
}

struct Record {
    sums: mat4x4<Real>,  // a column for each row of P
    unused: u32,
    consumed: u32,       // bins that went into the sums
    flags: u32,          // 0
    ticket: u32,         // which submission wrote this
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<vec4<f32>>;             // [bins][FIELDS][p_tiles]
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;             // [bins][FIELDS][q_tiles]
@group(0) @binding(3) var<storage, read_write> made: array<Record>;       // [segments][p_tiles][q_tiles]

// Terms that are added one after the other, and such sums that are: each adds to the error of a sum, and
// where all terms are equal the errors may all point the same way.
const CHAIN: u32 = 8u;

// The same number, as in logs_f32.wgsl: a compiler may take the rest of a number before the difference, and
// the digits are gone. Lavapipe does not, as was seen without this.
fn exact(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4(params.zero));
}

// The difference of numbers in two parts, and the negative one of the same bits when they are swapped.
fn difference(a: vec4<f32>, a_rest: vec4<f32>, b: vec4<f32>, b_rest: vec4<f32>) -> vec4<f32> {
    return exact(a - b) + exact(a_rest - b_rest);
}

// What is kept of a bin of four rows: a column for each field. The last field fills the rest up.
fn p_kept(bin: u32, tile: u32) -> mat4x4<f32> {
    let at = bin * FIELDS * params.p_tiles + tile;
    let third = min(2u, FIELDS - 1u) * params.p_tiles;
    let fourth = (FIELDS - 1u) * params.p_tiles;
    return mat4x4(p[at], p[at + params.p_tiles], p[at + third], p[at + fourth]);
}

fn q_kept(bin: u32, tile: u32) -> mat4x4<f32> {
    let at = bin * FIELDS * params.q_tiles + tile;
    let third = min(2u, FIELDS - 1u) * params.q_tiles;
    let fourth = (FIELDS - 1u) * params.q_tiles;
    return mat4x4(q[at], q[at + params.q_tiles], q[at + third], q[at + fourth]);
}

// What a bin adds to the sums: a column for each row of P.
fn terms(bin: u32, p_tile: u32, q_tile: u32) -> mat4x4<f32> {
    let rows = transpose(p_kept(bin, p_tile));
    let kept = q_kept(bin, q_tile);
    return mat4x4(
        term(rows[0], kept),
        term(rows[1], kept),
        term(rows[2], kept),
        term(rows[3], kept),
    );
}

fn record_of(segment: u32, p_tile: u32, q_tile: u32) -> Record {
    let first = segment * params.segment_bins;
    let end = min(first + params.segment_bins, params.bins);
    var record = Record(mat4x4<f32>(), 0u, 0u, 0u, params.ticket);
    for (var bin = first; bin < end;) {
        let fold_end = min(bin + CHAIN * CHAIN, end);
        var fold = mat4x4<f32>();
        while (bin < fold_end) {
            let chain_end = min(bin + CHAIN, fold_end);
            var chain = mat4x4<f32>();
            for (; bin < chain_end; bin += 1u) {
                chain += terms(bin, p_tile, q_tile);
                record.consumed += 1u;
            }
            fold += chain;
        }
        record.sums += fold;
    }
    return record;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matrix(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let down = WORKGROUP_SIZE / params.across;
    let wide = (params.q_tiles + params.across - 1u) / params.across;
    let squares = (params.p_tiles + down - 1u) / down * wide;
    let unit = unit_of(group, params.line, 0u, WORKGROUP_SIZE);
    let segment = unit / squares;
    let p_tile = unit % squares / wide * down + local / params.across;
    let q_tile = unit % squares % wide * params.across + local % params.across;
    if (segment < params.segments && p_tile < params.p_tiles && q_tile < params.q_tiles) {
        let at = (segment * params.p_tiles + p_tile) * params.q_tiles + q_tile;
        made[at] = record_of(segment, p_tile, q_tile);
    }
}

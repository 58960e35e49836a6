// Last pass of resident use: value and status of each row, from its record.
// Host: src/gpu/settle.rs. With shared/settle_sums.wgsl or shared/settle_chain.wgsl.

struct Params {
    units: u32,       // rows
    line: u32,        // workgroups in a line of the grid
    bins: u32,        // bins per row
    ticket: u32,      // marks the records of this submission
    mass: u32,        // the mass policy: CHECK, …
    p_weighed: u32,   // whether P has a mass, which logits do not
    q_weighed: u32,
    tolerance: f32,   // how far a mass may lie from 1 under CHECK
    least: f32,       // divergences below it owe digits to rounding
    zero: u32,        // is 0
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> settled: array<Record>;          // [rows]
@group(0) @binding(2) var<storage, read_write> values: array<u32>;        // [rows], the bits of f32
@group(0) @binding(3) var<storage, read_write> statuses: array<u32>;      // [rows]

const CHECK: u32 = 0u;
const NORMALIZE: u32 = 1u;
const AS_GIVEN: u32 = 2u;
const GENERALIZED: u32 = 3u;

const NOT_COMPUTED: u32 = 0u;
const OK: u32 = 1u;
const INFINITE_VALUE: u32 = 2u;
const INVALID_BIN: u32 = 3u;
const WRONG_MASS: u32 = 4u;
const NO_MASS_AT_ALL: u32 = 5u;
const LACKS_DIGITS: u32 = 6u;

const NAN: u32 = 0x7fc00000u;

struct Result {
    bits: u32,
    status: u32,
}

// What a mass makes of a row: OK, or why it is refused, or that rounding decides.
fn of_mass(mass: f32, weighed: u32) -> u32 {
    if (weighed == 0u || params.mass == NORMALIZE) {
        return select(OK, NO_MASS_AT_ALL, mass == 0.0);
    }
    if (params.mass == CHECK) {
        let off = abs(mass - 1.0) - params.tolerance;
        return select(select(OK, WRONG_MASS, off > 0.0), LACKS_DIGITS, abs(off) < 1e-5);
    }
    return OK;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn settle(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = unit_of(group, params.line, local, 1u);
    if (row < params.units) {
        let record = settled[row];
        var result = Result(NAN, NOT_COMPUTED);
        let ours = record.ticket == params.ticket && (record.flags & SOME_STALE) == 0u;
        if (ours && record.consumed == params.bins) {
            result = result_of(record);
        }
        values[row] = result.bits;
        statuses[row] = result.status;
    }
}

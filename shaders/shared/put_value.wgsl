// The unit is a row, which leaves its value and its status: for resident use.
// Host: src/gpu/settle.rs. With shared/settle_sums.wgsl or shared/settle_chain.wgsl.

struct Policy {
    bins: u32,          // bins per row
    mass: u32,          // the mass policy: CHECK, …
    p_weighed: u32,     // whether P has a mass, which logits do not
    q_weighed: u32,
    tolerance: f32,     // how far a mass may lie from 1 under CHECK
    least: f32,         // divergences below it owe digits to rounding
    with_statuses: u32, // whether statuses are wanted
}

@group(0) @binding(9) var<uniform> policy: Policy;
@group(0) @binding(10) var<storage, read_write> values: array<u32>;       // [rows], the bits of f32
@group(0) @binding(11) var<storage, read_write> statuses: array<u32>;     // [rows]

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
    if (weighed == 0u || policy.mass == NORMALIZE) {
        return select(OK, NO_MASS_AT_ALL, mass == 0.0);
    }
    if (policy.mass == CHECK) {
        let off = abs(mass - 1.0) - policy.tolerance;
        return select(select(OK, WRONG_MASS, off > 0.0), LACKS_DIGITS, abs(off) < 1e-5);
    }
    return OK;
}

// Makes the value of a row of its record.
fn put(row: u32, record: Record) {
    var result = Result(NAN, NOT_COMPUTED);
    let ours = record.ticket == params.ticket && (record.flags & SOME_STALE) == 0u;
    if (ours && record.consumed == policy.bins) {
        result = result_of(record);
    }
    values[row] = result.bits;
    if (policy.with_statuses != 0u) {
        statuses[row] = result.status;
    }
}

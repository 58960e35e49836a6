// Later passes, for divergences other than Kullback-Leibler's: makes a record of the sums over each
// unit, one segment of one row, from its bins and the row's masses, which the first pass found.
// Host: src/gpu/family.rs. With shared/bins.wgsl and shared/integrand.wgsl.
//
// Before the sums that are asked for comes a round with DIFFERENCE alone: masses are rounded, and bins that
// are divided by them no longer balance. What is left of the difference goes into all rounds after it.

struct Params {
    units: u32,          // as in rows.wgsl
    line: u32,
    lanes: u32,
    segments: u32,
    segment_quads: u32,
    bins: u32,
    p_stride: u32,
    q_stride: u32,
    ticket: u32,
    p_kind: u32,
    q_kind: u32,
    zero: u32,
    per_temperature: vec4<f32>,
    temperature: vec4<f32>,
    codes: vec4<u32>,                // what is summed
    divided: u32,                    // whether sides are divided by their masses
    balanced: u32,                   // whether the round with the differences is over
    terms: u32,                      // how many sums there are
    parameters: array<vec4<f32>, 4>, // of each sum
    series: array<vec4<f32>, 12>,    // three for each sum
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(7) var<storage, read> heads: array<Head>;              // [rows], of the first pass
@group(0) @binding(8) var<storage, read> balances: array<Record>;         // [rows], not read before they are there

// Trips whose sums are added one after the other: see segment_sums.wgsl.
const CHAIN: u32 = 16u;

fn scale_of(row: u32) -> Scale {
    if (params.divided == 0u) {
        return as_given();
    }
    var unbalanced: Real = 0.0;
    if (params.balanced != 0u) {
        let balance = balances[row];
        unbalanced = balance.first + (balance.p_only - balance.q_only);
    }
    return scale_by(masses_of(heads[row]), unbalanced);
}

// Whether what a row's sums are made from is of this submission.
fn is_stale(row: u32) -> bool {
    var stale = heads[row].ticket != params.ticket;
    if (params.balanced != 0u) {
        let balance = balances[row];
        stale |= balance.ticket != params.ticket || balance.consumed != params.bins
            || (balance.flags & SOME_STALE) != 0u;
    }
    return stale;
}

fn with_terms(record: Record, sums: vec4<Real>, only: vec2<Real>) -> Record {
    var more = record;
    more.first += sums.x;
    more.second += sums.y;
    more.third += sums.z;
    more.fourth += sums.w;
    more.p_only += only.x;
    more.q_only += only.y;
    return more;
}

fn record_of(unit: u32, lane: u32, lanes: u32) -> Record {
    let place = place_of(unit);
    let row = place.row;
    let end = place.end;
    let scale = scale_of(row);
    var record = nothing(params.ticket);
    var sums = vec4<Real>(0.0);
    var only = vec2<Real>(0.0);
    var trips = 0u;
    var quad = place.first + lane;
    loop {
        let bins = bins_at(row, quad, end, scale);
        // In turn, so that a device that computes whatever it may choose from does so no more than it has to.
        var i = 0u;
        loop {
            let is_it = vec4(i) == vec4(0u, 1u, 2u, 3u);
            sums += select(vec4<Real>(0.0), vec4<Real>(total(term(i, bins))), is_it);
            continuing {
                i += 1u;
                break if i >= params.terms;
            }
        }
        only += bins.only;
        record.flags |= bins.flags;
        record.consumed += bins_in(quad, end);
        if (LOOK >= AT_LOGARITHMS && any(params.codes == vec4(LARGEST))) {
            let l = bins.l.hi + bins.l.lo;
            record.largest = max(record.largest, max(max(l.x, l.y), max(l.z, l.w)));
        }
        trips += 1u;
        if (trips % CHAIN == 0u) {
            record = with_terms(record, sums, only);
            sums = vec4<Real>(0.0);
            only = vec2<Real>(0.0);
        }
        continuing {
            quad += lanes;
            break if quad >= end;
        }
    }
    record = with_terms(record, sums, only);
    record.flags |= select(0u, SOME_STALE, is_stale(row));
    return record;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn family(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    reduce(group, local);
}

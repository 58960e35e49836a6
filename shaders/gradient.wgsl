// Gradients: the derivatives in the numbers of some whole rows, from their bins and what the host made
// of the records of the first passes. Host: src/gpu/gradient.rs. With shared/slopes_f32.wgsl.
//
// Where a side is divided by its mass the mean of its slopes is taken off them, which a pass sums before
// the one that writes: as the mean of what lies beyond a number near it, since the two may be much alike
// (nearly all of a mass may be in one bin). Where the host has no such number, one pass more finds it.

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
    less_1: vec4<f32>,   // what a slope is told: see shared/slopes_f32.wgsl
    order: vec4<f32>,
    by_u: f32,
    by_v: f32,
    slope: u32,
    divided: u32,        // whether sides are divided by their masses
    p_summed: u32,       // whether the mean of the slopes in P is summed
    q_summed: u32,
    round: u32,          // how many passes that sum them are over
    writes: u32,         // whether this one writes: derivatives in P if 1, in Q if 2, in both if 3
}

// What the host knows of a row.
struct Line {
    p: f32,              // its masses, as in bins.wgsl
    q: f32,
    p_exponent: i32,
    q_exponent: i32,
    unbalanced: f32,     // what the logarithm of their ratio lacks
    ln_overlap: f32,     // in two parts, where slopes of powers are held against it
    ln_overlap_rest: f32,
    p_about: f32,        // near the means of the slopes
    q_about: f32,
    p_by: f32,           // what a derivative is of a slope, but for the probability of a logarithm
    q_by: f32,
    factor: f32,         // of the slopes
    p_shift: f32,        // what they are less where nothing is divided by a mass
    q_shift: f32,
    p_end_of_p: f32,     // the slope in P where Q has nothing, or neither has
    p_end_of_q: f32,     // and where P has nothing
    q_end_of_p: f32,     // the slope in Q where Q has nothing
    q_end_of_q: f32,     // and where P has nothing, or neither has
    ticket: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(7) var<storage, read> lines: array<Line>;              // [rows]
@group(0) @binding(8) var<storage, read> means: array<Record>;            // [rows], of the pass before
@group(0) @binding(10) var<storage, read_write> p_gradient: array<vec4<u32>>; // [rows][padded bins]
@group(0) @binding(11) var<storage, read_write> q_gradient: array<vec4<u32>>;

// Trips whose sums are added one after the other: see segment_sums.wgsl.
const CHAIN: u32 = 16u;
const SIGN: u32 = 1u << 31u;

fn scale_of(line: Line) -> Scale {
    if (params.divided == 0u) {
        return as_given();
    }
    return scale_by(Masses(line.p, line.q, line.p_exponent, line.q_exponent), line.unbalanced);
}

// Whether what a row's derivatives are made from is of this submission.
fn is_stale(row: u32) -> bool {
    var stale = lines[row].ticket != params.ticket;
    if (params.round != 0u) {
        let mean = means[row];
        stale |= mean.ticket != params.ticket || mean.consumed != params.bins
            || (mean.flags & SOME_STALE) != 0u;
    }
    return stale;
}

// What the means are near, and by how much they are off it.
struct Means {
    about: vec2<f32>,
    beyond: vec2<f32>,
}

// What the first pass finds is what a second one goes out from: there is one where the first had nothing.
fn means_of(row: u32, line: Line) -> Means {
    if (params.round == 0u) {
        return Means(vec2(line.p_about, line.q_about), vec2(0.0));
    }
    let found = means[row];
    if (params.writes == 0u) {
        return Means(vec2(found.first, found.second), vec2(0.0));
    }
    return Means(vec2(found.third, found.fourth), vec2(found.first, found.second));
}

// How the slopes of a side become derivatives.
struct Way {
    is_probs: bool,
    by: f32,
    factor: f32,
    about: f32,
    shift: f32,
}

// The derivatives in four numbers of a side, as bits: an infinite one goes through no arithmetic.
fn derivatives(
    way: Way,
    product: vec4<f32>,
    end: vec4<f32>,
    own: vec4<f32>,
    own_on: vec4<bool>,
    both: vec4<bool>,
) -> vec4<u32> {
    let infinite = (bitcast<vec4<u32>>(end) & vec4(~SIGN)) == vec4(INFINITE);
    let end_slope = select(end, vec4(0.0), infinite) - way.about;
    var slope: vec4<f32>;
    if (way.is_probs) {
        slope = way.factor * select(end_slope, product / own, both) - way.shift;
    } else {
        let of_product = select(own * end_slope, product, both);
        slope = select(vec4(0.0), way.factor * of_product - own * way.shift, own_on);
    }
    let bits = bitcast<vec4<u32>>(way.by * slope);
    let ends = bitcast<vec4<u32>>(end) ^ vec4(bitcast<u32>(way.by) & SIGN);
    return select(bits, ends, infinite & !both & (vec4(way.is_probs) | own_on));
}

// Whether a bin of two probabilities is too small for its slopes.
fn flags_of_small(bins: Bins) -> u32 {
    let small = bins.both & ((bins.p <= vec4(FLOOR)) | (bins.q <= vec4(FLOOR)));
    // Logarithms that are divided by their mass have nothing to add there.
    let counts = p_kind() == PROBS || q_kind() == PROBS || params.divided == 0u;
    return select(0u, SOME_HUGE, counts && any(small));
}

// What four bins add to the means.
fn summed(bins: Bins, slopes: Slopes, about: vec2<f32>) -> vec2<f32> {
    let p_alone = bins.p_on & !bins.q_on;
    let q_alone = bins.q_on & !bins.p_on;
    let of_p = select(vec4(0.0), slopes.of_p, bins.both);
    let of_q = select(vec4(0.0), slopes.of_q, bins.both);
    let sums = vec2(
        total(select(of_p, bins.p * (slopes.p_end - about.x), p_alone)),
        total(select(of_q, bins.q * (slopes.q_end - about.y), q_alone)),
    );
    return select(vec2(0.0), sums, vec2(params.p_summed, params.q_summed) != vec2(0u));
}

fn with_sums(record: Record, sums: vec2<f32>) -> Record {
    var more = record;
    more.first += sums.x;
    more.second += sums.y;
    return more;
}

fn record_of(unit: u32, lane: u32, lanes: u32) -> Record {
    let place = place_of(unit);
    let row = place.row;
    let line = lines[row];
    let scale = scale_of(line);
    let near = means_of(row, line);
    let shifts = vec2(line.p_shift, line.q_shift) + line.factor * near.beyond;
    let of_p = Way(p_kind() == PROBS, line.p_by, line.factor, near.about.x, shifts.x);
    let of_q = Way(q_kind() == PROBS, line.q_by, line.factor, near.about.y, shifts.y);
    let row_quads = (params.bins + 3u) / 4u;
    var record = nothing(params.ticket);
    var sums = vec2(0.0);
    var trips = 0u;
    var quad = place.first + lane;
    loop {
        let bins = bins_at(row, quad, place.end, scale);
        let slopes = slopes_of(bins, line, near.about);
        if (quad < place.end) {
            let at = row * row_quads + quad;
            if ((params.writes & 1u) != 0u) {
                p_gradient[at] =
                    derivatives(of_p, slopes.of_p, slopes.p_end, bins.p, bins.p_on, bins.both);
            }
            if ((params.writes & 2u) != 0u) {
                q_gradient[at] =
                    derivatives(of_q, slopes.of_q, slopes.q_end, bins.q, bins.q_on, bins.both);
            }
        }
        sums += summed(bins, slopes, near.about);
        record.flags |= bins.flags | slopes.flags | flags_of_small(bins);
        record.consumed += bins_in(quad, place.end);
        trips += 1u;
        if (trips % CHAIN == 0u) {
            record = with_sums(record, sums);
            sums = vec2(0.0);
        }
        continuing {
            quad += lanes;
            break if quad >= place.end;
        }
    }
    record = with_sums(record, sums);
    // Once for each row.
    let about = select(vec2(0.0), near.about, place.first + lane == 0u);
    record.third = about.x;
    record.fourth = about.y;
    record.flags |= select(0u, SOME_STALE, is_stale(row));
    return record;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    reduce(group, local);
}

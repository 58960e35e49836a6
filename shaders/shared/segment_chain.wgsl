// A segment of bins of which a side is logarithms, as one node of the chain rule. With sides.wgsl or
// plain_f32.wgsl.
//
// What a bin adds is held against the ratio of the segment's masses, and keeps its digits where that is
// known to some. A first reading finds it, and the units of the masses, from a sample of the bins; where
// the second shows that they were something else, both are done once more with all of the bins.

// What there is of a side, roughly.
struct Heap {
    top: Real,      // its largest logarithm; NO_TOP where there is nothing
    mass: f32,      // the mass, in units of that one's
}

struct Heaps {
    p: Heap,
    q: Heap,
    apart: vec2<f32>,   // p's mass times ln(p/q), summed, and q's times ln(q/p)
}

const NO_TOP: Real = -1e30;

fn no_heaps() -> Heaps {
    return Heaps(Heap(NO_TOP, 0.0), Heap(NO_TOP, 0.0), vec2(0.0));
}

// e^x to five digits: all that a reference needs. 0 far below 1.
fn roughly(x: vec4<Real>) -> vec4<f32> {
    return exp2(vec4<f32>(x) * 1.442695);
}

fn heaped(a: Heaps, b: Heaps) -> Heaps {
    let p_top = max(a.p.top, b.p.top);
    let q_top = max(a.q.top, b.q.top);
    let unit = roughly(vec4<Real>(a.p.top - p_top, b.p.top - p_top, a.q.top - q_top, b.q.top - q_top));
    return Heaps(
        Heap(p_top, a.p.mass * unit.x + b.p.mass * unit.y),
        Heap(q_top, a.q.mass * unit.z + b.q.mass * unit.w),
        a.apart * unit.xz + b.apart * unit.yw,
    );
}

// The logarithms of four bins of both sides.
struct Logs {
    p: Pair,
    q: Pair,
}

fn no_logs() -> Logs {
    let none = Pair(vec4<Real>(NO_TOP), vec4<Real>(0.0));
    return Logs(none, none);
}

fn top_of(a: Pair, b: Pair, c: Pair, e: Pair) -> Real {
    let most = max(max(a.hi, b.hi), max(c.hi, e.hi));
    return max(max(most.x, most.y), max(most.z, most.w));
}

fn beside(ln: Pair, top: Real) -> vec4<f32> {
    return roughly((ln.hi - top) + ln.lo);
}

fn in_all(sum: vec4<f32>) -> f32 {
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// An invocation by itself has few loads, or is a program's, which would have more to compile than to gain.
fn may_be_far() -> bool {
    return BY_SAMPLE && SHARED;
}

// What four bins add, beside these tops.
fn heaps_at(bins: Logs, tops: vec2<Real>) -> Heaps {
    let w = beside(bins.p, tops.x);
    let v = beside(bins.q, tops.y);
    let apart = vec4<f32>(bins.p.hi - bins.q.hi);
    let sums = select(vec2(0.0), vec2(in_all(w * apart), in_all(v * -apart)), may_be_far());
    return Heaps(Heap(tops.x, in_all(w)), Heap(tops.y, in_all(v)), sums);
}

fn piled(a: Heaps, b: Heaps) -> Heaps {
    let p = Heap(a.p.top, a.p.mass + b.p.mass);
    let q = Heap(a.q.top, a.q.mass + b.q.mass);
    return Heaps(p, q, a.apart + b.apart);
}

fn heaps_from(a: Logs, b: Logs, c: Logs, e: Logs) -> Heaps {
    let tops = vec2(top_of(a.p, b.p, c.p, e.p), top_of(a.q, b.q, c.q, e.q));
    return piled(
        piled(heaps_at(a, tops), heaps_at(b, tops)),
        piled(heaps_at(c, tops), heaps_at(e, tops)),
    );
}

// Vector loads of a unit that the first reading takes at least, and trips: few bins mislead often.
const SAMPLE: u32 = 32u;
const SAMPLED_TRIPS: u32 = 2u;

// Vector loads from one trip of the first reading to the next.
fn step_of(place: Place, lanes: u32) -> u32 {
    let trip = LOADS * lanes;
    let trips = (place.end - place.first + trip - 1u) / trip;
    let sampled = max(SAMPLED_TRIPS, SAMPLE / trip);
    return select(trip, trip * max(trips / sampled, 1u), BY_SAMPLE);
}

// A vector load of each side; the last one of the segment where there is none.
struct Quads {
    p: Quad,
    q: Quad,
}

fn quads_at(row: u32, quad: u32, end: u32) -> Quads {
    let at = min(quad, end - 1u);
    return Quads(p_quad(row, at, true), q_quad(row, at, true));
}

// The loads of a trip are in flight together. The loops test at their ends: see segment_sums.wgsl.
fn heaps_of(place: Place, lane: u32, lanes: u32, step: u32) -> Heaps {
    var heaps = no_heaps();
    var quad = place.first + lane;
    loop {
        let quads = vec4(quad) + lanes * vec4(0u, 1u, 2u, 3u);
        let a = logs_at(place.row, quads.x, place.end);
        var b = no_logs();
        var c = no_logs();
        var e = no_logs();
        if (LOADS >= 2u) {
            b = logs_at(place.row, quads.y, place.end);
        }
        if (LOADS >= 4u) {
            c = logs_at(place.row, quads.z, place.end);
            e = logs_at(place.row, quads.w, place.end);
        }
        heaps = heaped(heaps, heaps_from(a, b, c, e));
        continuing {
            quad += step;
            break if quad >= place.end;
        }
    }
    return heaps;
}

// What the second reading holds the bins against.
struct Held {
    p_exponent: i32,
    q_exponent: i32,
    p_unit: MassUnit,
    q_unit: MassUnit,
    to: Reference,
    tops: vec2<Real>,   // the largest logarithms of the two sides
    far: bool,          // the sides are so far from each other that plain sums do
}

fn exponent_of(heap: Heap) -> i32 {
    return select(NO_MASS, i32(floor(heap.top * LOG2_E)), heap.top > NO_TOP);
}

// Sides are far from each other if they diverge by so much, seen from either, of a sample with some room for
// what that does not tell.
const FAR: f32 = 0.5;
const FAR_OF_SAMPLE: f32 = 0.75;

// What a first reading is to leave to the second. Units that did stay: what is symmetric is made of the same
// sums in both orders, of which one may have been held against what is right.
struct Known {
    again: bool,
    units: bool,
    exponents: vec2<i32>,
}

fn held_against(heaps: Heaps, known: Known) -> Held {
    let p_exponent = select(exponent_of(heaps.p), known.exponents.x, known.units);
    let q_exponent = select(exponent_of(heaps.q), known.exponents.y, known.units);
    let p_unit = mass_unit(p_exponent);
    let q_unit = mass_unit(q_exponent);
    if (p_exponent == NO_MASS || q_exponent == NO_MASS) {
        let none = Reference(0.0, 0.0, 0.0);
        return Held(p_exponent, q_exponent, p_unit, q_unit, none, vec2<Real>(), false);
    }
    let tops = two_diff(vec4<Real>(heaps.p.top), vec4<Real>(heaps.q.top));
    // Rounded, so that of the same masses, summed in another order, it is still 0.
    let masses = log(heaps.q.mass) - log(heaps.p.mass);
    let rest = vec4<Real>(Real(round(masses * 0x1p20f) * 0x1p-20f));
    var ln = two_diff(tops.hi, rest);
    ln.lo += tops.lo;
    // In the units of the masses the ratio is as near to 1 as their numbers are.
    let power = power_of(ln);
    let by = clamp(power.exponent + vec4(q_exponent - p_exponent), vec4(-100i), vec4(100i));
    let to_p = power.mantissa * pow2(by);
    let to = Reference(ln.hi.x, ln.lo.x, to_p.x);
    let both_ways = vec2(f32(ln.hi.x), -f32(ln.hi.x));
    let apart = heaps.apart / vec2(heaps.p.mass, heaps.q.mass) - both_ways;
    let far = !known.again && min(apart.x, apart.y) > FAR_OF_SAMPLE;
    let at = vec2<Real>(heaps.p.top, heaps.q.top);
    return Held(p_exponent, q_exponent, p_unit, q_unit, to, at, may_be_far() && far);
}

// Sums over bins: w, v, the excesses g and u. Of a far segment, until it is settled: w and v in units of
// the largest, w·ln(w/v) and v·ln(v/w).
struct Excesses {
    sums: vec4<Real>,
    consumed: u32,
    flags: u32,
}

fn no_excesses() -> Excesses {
    return Excesses(vec4<Real>(), 0u, 0u);
}

fn together(a: Excesses, b: Excesses) -> Excesses {
    return Excesses(a.sums + b.sums, a.consumed + b.consumed, a.flags | b.flags);
}

fn total(x: vec4<Real>) -> Real {
    return (x.x + x.y) + (x.z + x.w);
}

// Four bins, weighed.
struct Weighed {
    w: vec4<Real>,      // under P and under Q, in the units that they are held against
    v: vec4<Real>,
    d: Pair,            // ln(p/q)
    both: vec4<bool>,
    flags: u32,
}

fn excesses_at(quads: Quads, quad: u32, end: u32, held: Held) -> Excesses {
    let bins = weighed(quads, quad, end, held);
    let more = excess(bins.w, bins.v, bins.d, bins.both, held.to);
    let sums = vec4<Real>(total(bins.w), total(bins.v), total(more.g), total(more.u));
    return Excesses(sums, bins_in(quad, end), bins.flags);
}

// Vector loads whose sums are added one after the other: see segment_sums.wgsl.
const CHAIN: u32 = 16u;

fn excesses_of(place: Place, lane: u32, lanes: u32, held: Held) -> Excesses {
    var all = no_excesses();
    var quad = place.first + lane;
    // In flight while the one before it is worked on.
    var ahead = quads_at(place.row, quad, place.end);
    var trips = 0u;
    loop {
        var some = no_excesses();
        loop {
            let quads = ahead;
            ahead = quads_at(place.row, quad + lanes, place.end);
            some = together(some, excesses_at(quads, quad, place.end, held));
            trips += 1u;
            continuing {
                quad += lanes;
                break if quad >= place.end || trips % CHAIN == 0u;
            }
        }
        all = together(all, some);
        continuing {
            break if quad >= place.end;
        }
    }
    return all;
}

fn record_from(excesses: Excesses, held: Held) -> Record {
    let s = excesses.sums;
    // Some devices have no powers of two as small as 0.
    let w = select(s.x, 0.0, held.p_exponent == NO_MASS);
    let v = select(s.y, 0.0, held.q_exponent == NO_MASS);
    var record = node(w, v, held.p_exponent, held.q_exponent, held.to, s.z, s.w);
    record.consumed = excesses.consumed;
    record.flags = excesses.flags;
    record.ticket = params.ticket;
    return record;
}

// Whether no mass is far from its unit.
fn are_moderate(excesses: Excesses, held: Held) -> bool {
    let masses = excesses.sums.xy;
    return held.p_exponent != NO_MASS && held.q_exponent != NO_MASS
        && is_moderate(masses.x, excesses.consumed) && is_moderate(masses.y, excesses.consumed);
}

// Whether that may be said of bins that were held against a sample: no mass is far from its unit, where
// weights lose digits, and what the ratio of the masses takes away again is next to nothing, or leaves a
// quarter, which has the rounding errors of all that there was.
fn is_held(excesses: Excesses, held: Held) -> bool {
    if (!are_moderate(excesses, held)) {
        return false;
    }
    let s = excesses.sums;
    let u = s.w / s.x;
    let eta = of_ratio(u, s.y * held.to.to_p / s.x).eta;
    return abs(u) <= 0x1p-20 || s.z >= 4.0 / 3.0 * s.x * eta;
}

var<workgroup> all_heaps: array<Heaps, WORKGROUP_SIZE>;
var<workgroup> all_excesses: array<Excesses, WORKGROUP_SIZE>;
var<workgroup> again: atomic<u32>;

// Both readings of a unit, the first one in such steps. Each of its lanes is told what they made.
struct Readings {
    excesses: Excesses,
    held: Held,
    sound: bool,    // that may be said of them
}

fn readings_of(
    place: Place,
    inside: bool,
    local: u32,
    lanes: u32,
    step: u32,
    known: Known,
) -> Readings {
    let lane = local & (lanes - 1u);
    var heaps = no_heaps();
    if (inside) {
        heaps = heaps_of(place, lane, lanes, step);
    }
    if (SHARED) {
        all_heaps[local] = heaps;
        for (var width = lanes / 2u; width > 0u; width /= 2u) {
            workgroupBarrier();
            if (lane < width) {
                heaps = heaped(heaps, all_heaps[local + width]);
                all_heaps[local] = heaps;
            }
        }
        workgroupBarrier();
        heaps = all_heaps[local - lane];
    }
    let held = held_against(heaps, known);
    var excesses = no_excesses();
    if (inside && may_be_far() && held.far) {
        excesses = far_sums(place, lane, lanes, held);
    } else if (inside) {
        excesses = excesses_of(place, lane, lanes, held);
    }
    if (SHARED) {
        all_excesses[local] = excesses;
        for (var width = lanes / 2u; width > 0u; width /= 2u) {
            workgroupBarrier();
            if (lane < width) {
                excesses = together(excesses, all_excesses[local + width]);
                all_excesses[local] = excesses;
            }
        }
        workgroupBarrier();
        excesses = all_excesses[local - lane];
    }
    return settled(excesses, held);
}

// Makes the record of each unit of the dispatch, and puts it where it is to be left.
fn reduce(group: vec3<u32>, local: u32) {
    let lanes = select(1u, params.lanes, SHARED);
    let lane = local & (lanes - 1u);
    let unit = unit_of(group, params.line, local, lanes);
    let inside = unit < params.units;
    let place = place_of(min(unit, params.units - 1u));
    let step = step_of(place, lanes);
    let trip = LOADS * lanes;
    if (BY_SAMPLE && SHARED && local == 0u) {
        atomicStore(&again, 0u);
    }
    var readings = readings_of(place, inside, local, lanes, step, Known(false, false, vec2(0i)));
    let refused = (readings.excesses.flags & (SOME_INVALID | SOME_HUGE)) != 0u;
    let doubted = step > trip || readings.held.far;
    let more = inside && doubted && !refused && !readings.sound;
    let held = readings.held;
    let units = are_moderate(readings.excesses, held);
    let known = Known(true, units, vec2(held.p_exponent, held.q_exponent));
    if (BY_SAMPLE && SHARED) {
        if (more) {
            atomicStore(&again, 1u);
        }
        if (workgroupUniformLoad(&again) != 0u) {
            let others = readings_of(place, more, local, lanes, trip, known);
            if (more) {
                readings = others;
            }
        }
    } else if (BY_SAMPLE && more) {
        // By an invocation alone, without the barriers of the others.
        let others = held_against(heaps_of(place, 0u, 1u, LOADS), known);
        readings = Readings(excesses_of(place, 0u, 1u, others), others, true);
    }
    if (lane == 0u && inside) {
        put(unit, record_from(readings.excesses, readings.held));
    }
}

// A segment of probabilities, summed.

// Four bins, or the sums of several fours.
struct Bins {
    g: vec4<Real>,          // p·ln(p/q) − p + q, meaningless where invalid or infinite
    p: vec4<Real>,
    q: vec4<Real>,
    d: vec4<Real>,          // p − q
    least: u32,             // the smallest bit pattern of q where p > 0, or what is 0 where that is
    top: u32,               // the largest bit pattern, or the upper half of it
}

fn summed(a: Bins, b: Bins) -> Bins {
    let least = min(a.least, b.least);
    return Bins(a.g + b.g, a.p + b.p, a.q + b.q, a.d + b.d, least, max(a.top, b.top));
}

// Trips whose sums are added one after the other. Bins that are all alike are rounded alike, so
// that the errors of longer chains would add up.
const CHAIN: u32 = 8u;

// The loads of a trip are in flight together, ahead of what is made of them, and are added as a
// tree. Past the end of the segment there are zeros on both sides, which add nothing. The loops test
// at their ends: some adapters run a body once more than its condition holds.
fn record_of(unit: u32, lane: u32, lanes: u32) -> Record {
    let place = place_of(unit);
    let row = place.row;
    let first = place.first + lane;
    let end = place.end;
    var total = vec4<Real>();
    var least = INFINITE;
    var top = 0u;
    var trips = 0u;
    var quad = first;
    loop {
        var sum = Bins();
        sum.least = least;
        loop {
            let each = vec4(quad) + lanes * vec4(0u, 1u, 2u, 3u);
            let inside = vec4(WHOLE) | (each < vec4(end));
            let at = min(each, vec4(end - 1u));
            let p_0 = p_quad(row, at.x, inside.x);
            let q_0 = q_quad(row, at.x, inside.x);
            let p_1 = p_quad(row, at.y, inside.y);
            let q_1 = q_quad(row, at.y, inside.y);
            let p_2 = p_quad(row, at.z, inside.z);
            let q_2 = q_quad(row, at.z, inside.z);
            let p_3 = p_quad(row, at.w, inside.w);
            let q_3 = q_quad(row, at.w, inside.w);
            var more = kl_bins(p_0, q_0);
            if (LOADS >= 2u) {
                more = summed(more, kl_bins(p_1, q_1));
            }
            if (LOADS >= 4u) {
                more = summed(more, summed(kl_bins(p_2, q_2), kl_bins(p_3, q_3)));
            }
            sum = summed(sum, more);
            trips += 1u;
            continuing {
                quad += LOADS * lanes;
                break if quad >= end || trips % CHAIN == 0u;
            }
        }
        total += in_one(sum);
        least = sum.least;
        top = max(top, sum.top);
        continuing {
            break if quad >= end;
        }
    }
    if (has_small(least)) {
        total.x = lifted_sum(row, first, end, lanes);
    }
    return Record(
        total.xy,
        total.zw,
        top,
        consumed(first, end, lanes, trips),
        select(0u, SOME_INFINITE, least == 0u),
        params.ticket,
    );
}

// The sum of g once more, with care.
fn lifted_sum(row: u32, first: u32, end: u32, lanes: u32) -> Real {
    var total = vec4<Real>();
    var trips = 0u;
    var quad = first;
    loop {
        var sum = vec4<Real>();
        loop {
            sum += lifted_g(p_quad(row, quad, true), q_quad(row, quad, true));
            trips += 1u;
            continuing {
                quad += lanes;
                break if quad >= end || trips % CHAIN == 0u;
            }
        }
        total += sum;
        continuing {
            break if quad >= end;
        }
    }
    return (total.x + total.y) + (total.z + total.w);
}

// The sums of g, p, q and d.
fn in_one(sum: Bins) -> vec4<Real> {
    return vec4<Real>(
        (sum.g.x + sum.g.y) + (sum.g.z + sum.g.w),
        (sum.p.x + sum.p.y) + (sum.p.z + sum.p.w),
        (sum.q.x + sum.q.y) + (sum.q.z + sum.q.w),
        (sum.d.x + sum.d.y) + (sum.d.z + sum.d.w),
    );
}

fn smallest(bits: vec4<u32>) -> u32 {
    return min(min(bits.x, bits.y), min(bits.z, bits.w));
}

fn largest(bits: vec4<u32>) -> u32 {
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// How many bins so many trips of one invocation took.
fn consumed(first: u32, end: u32, lanes: u32, trips: u32) -> u32 {
    let due = (max(end, first) - first + lanes - 1u) >> countTrailingZeros(lanes);
    let quads = min(LOADS * trips, due);
    // What fills up the row's last load is no bin.
    let behind = first + quads * lanes;
    let taken_to = 4u * (behind - lanes) + 4u;
    return 4u * quads - select(0u, taken_to - params.bins, quads > 0u && taken_to > params.bins);
}

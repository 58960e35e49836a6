// The bins of a segment, whatever the two sides are.

// What probabilities are counted in, a power of two. Of a side without any, nothing counts.
struct MassUnit {
    exponent: i32,
}

fn mass_unit(exponent: i32) -> MassUnit {
    return MassUnit(select(exponent, 0i, exponent == NO_MASS));
}

// The probabilities of a side, none of which is far above the unit.
fn weights(side: Side, unit: MassUnit) -> vec4<Real> {
    return scaled_down(side.weight.mantissa, side.weight.exponent - vec4(unit.exponent));
}

// Whether a sample of the bins tells how large they are: where a side may be anything it does not pay.
const BY_SAMPLE: bool = false;

fn is_moderate(mass: Real, bins: u32) -> bool {
    return true;
}

struct Sides {
    p: Side,
    q: Side,
}

fn sides_of(quads: Quads, quad: u32, end: u32) -> Sides {
    let inside = vec4(0u, 1u, 2u, 3u) < vec4(bins_in(quad, end));
    return Sides(
        side_of(quads.p, params.p_kind, inside),
        side_of(quads.q, params.q_kind, inside),
    );
}

fn logs_at(row: u32, quad: u32, end: u32) -> Logs {
    let sides = sides_of(quads_at(row, quad, end), quad, end);
    return Logs(logs_of(sides.p), logs_of(sides.q));
}

fn logs_of(side: Side) -> Pair {
    return Pair(select(vec4<Real>(NO_TOP), side.ln.hi, side.on), side.ln.lo);
}

fn weighed(quads: Quads, quad: u32, end: u32, held: Held) -> Weighed {
    let sides = sides_of(quads, quad, end);
    var d = two_diff(sides.p.ln.hi, sides.q.ln.hi);
    d.lo += sides.p.ln.lo - sides.q.ln.lo;
    let infinite = any(sides.p.on & !sides.q.on);
    return Weighed(
        weights(sides.p, held.p_unit),
        weights(sides.q, held.q_unit),
        d,
        sides.p.on & sides.q.on,
        sides.p.flags | sides.q.flags | flags_of_low(sides.p, sides.q) | select(0u, SOME_INFINITE, infinite),
    );
}

// Without a sample nothing is called far, and all is sound.
fn far_sums(place: Place, lane: u32, lanes: u32, held: Held) -> Excesses {
    return no_excesses();
}

fn settled(excesses: Excesses, held: Held) -> Readings {
    return Readings(excesses, held, true);
}

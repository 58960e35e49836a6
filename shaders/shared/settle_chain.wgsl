// A row's value from its node: the divergence of the two sides divided by their masses.

fn result_of(record: Record) -> Result {
    if ((record.flags & SOME_INVALID) != 0u) {
        return Result(NAN, INVALID_BIN);
    }
    let masked = (record.flags & SOME_MASKED) != 0u && !(record.w > 0.0 && record.v > 0.0);
    if (masked || (record.flags & SOME_HUGE) != 0u) {
        return Result(NAN, LACKS_DIGITS);
    }
    let masses = vec2(record.w, record.v) * vec2(
        pow2(vec4(clamp(record.p_exponent, -126i, 127i))).x,
        pow2(vec4(clamp(record.q_exponent, -126i, 127i))).x,
    );
    // Of a side of logits only whether it has any counts.
    let p_mass = of_mass(select(record.w, masses.x, policy.p_weighed != 0u), policy.p_weighed);
    let q_mass = of_mass(select(record.v, masses.y, policy.q_weighed != 0u), policy.q_weighed);
    if (p_mass == WRONG_MASS || p_mass == NO_MASS_AT_ALL) {
        return Result(NAN, p_mass);
    }
    if (q_mass == WRONG_MASS || q_mass == NO_MASS_AT_ALL) {
        return Result(NAN, q_mass);
    }
    var lacks = p_mass == LACKS_DIGITS || q_mass == LACKS_DIGITS;
    if ((record.flags & SOME_INFINITE) != 0u) {
        return Result(INFINITE, select(INFINITE_VALUE, LACKS_DIGITS, lacks));
    }
    let value = record.g / record.w;
    lacks |= value > 0.0 && value < policy.least;
    return Result(bitcast<u32>(value), select(OK, LACKS_DIGITS, lacks));
}

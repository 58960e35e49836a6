// Records of sums, for rows of probabilities.

struct Record {
    g_and_p: vec2<Real>,   // Σ p·ln(p/q) − p + q, and Σ p
    q_and_d: vec2<Real>,   // Σ q, and Σ (p − q)
    top: u32,              // the largest bit pattern of a bin, or the upper half of it
    consumed: u32,         // bins that went into the sums
    flags: u32,            // SOME_…
    ticket: u32,           // which submission wrote this
}

fn nothing(ticket: u32) -> Record {
    return Record(vec2<Real>(), vec2<Real>(), 0u, 0u, 0u, ticket);
}

fn added(a: Record, b: Record) -> Record {
    return Record(
        a.g_and_p + b.g_and_p,
        a.q_and_d + b.q_and_d,
        max(a.top, b.top),
        a.consumed + b.consumed,
        a.flags | b.flags,
        a.ticket,
    );
}

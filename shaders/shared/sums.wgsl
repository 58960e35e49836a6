// Records of sums, for rows of probabilities.

struct Record {
    g: Real,        // Σ p·ln(p/q) − p + q
    p: Real,        // Σ p
    q: Real,        // Σ q
    d: Real,        // Σ (p − q)
    top: u32,       // the largest bit pattern of a bin, or the upper half of it
    consumed: u32,  // bins that went into the sums
    flags: u32,     // SOME_…
    ticket: u32,    // which submission wrote this
}

fn nothing(ticket: u32) -> Record {
    return Record(0.0, 0.0, 0.0, 0.0, 0u, 0u, 0u, ticket);
}

fn added(a: Record, b: Record) -> Record {
    return Record(
        a.g + b.g,
        a.p + b.p,
        a.q + b.q,
        a.d + b.d,
        max(a.top, b.top),
        a.consumed + b.consumed,
        a.flags | b.flags,
        a.ticket,
    );
}

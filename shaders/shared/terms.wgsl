// Records of the sums that other divergences than Kullback-Leibler's are made of.

struct Record {
    first: Real,      // sums over the bins in which both sides have mass, of four integrands
    second: Real,
    third: Real,
    fourth: Real,
    p_only: Real,     // the mass of P in bins that Q lacks
    q_only: Real,     // and of Q in bins that P lacks
    largest: Real,    // the largest ln(p/q), or 0
    unused: u32,      // an even number of words, as f64 has it
    consumed: u32,    // bins that went into the sums
    flags: u32,       // SOME_…
    ticket: u32,      // which submission wrote this
}

fn nothing(ticket: u32) -> Record {
    return Record(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0u, 0u, 0u, ticket);
}

fn added(a: Record, b: Record) -> Record {
    return Record(
        a.first + b.first,
        a.second + b.second,
        a.third + b.third,
        a.fourth + b.fourth,
        a.p_only + b.p_only,
        a.q_only + b.q_only,
        max(a.largest, b.largest),
        0u,
        a.consumed + b.consumed,
        a.flags | b.flags,
        a.ticket,
    );
}

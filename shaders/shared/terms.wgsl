// Records of the sums that other divergences than Kullback-Leibler's are made of.

struct Record {
    first: vec2<Real>,    // sums over the bins in which both sides have mass, of four integrands
    second: vec2<Real>,
    only: vec2<Real>,     // the mass of P in bins that Q lacks, and of Q in bins that P lacks
    largest: Real,        // the largest ln(p/q), or 0
    consumed: u32,        // bins that went into the sums
    flags: u32,           // SOME_…
    ticket: u32,          // which submission wrote this
}

fn nothing(ticket: u32) -> Record {
    return Record(vec2<Real>(), vec2<Real>(), vec2<Real>(), 0.0, 0u, 0u, ticket);
}

fn added(a: Record, b: Record) -> Record {
    return Record(
        a.first + b.first,
        a.second + b.second,
        a.only + b.only,
        max(a.largest, b.largest),
        a.consumed + b.consumed,
        a.flags | b.flags,
        a.ticket,
    );
}

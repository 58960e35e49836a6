// Sides that are logarithms as they are, of whatever name: what a driver is told need not be computed for
// other kinds as well.

fn p_kind() -> u32 {
    return LOG_PROBS;
}

fn q_kind() -> u32 {
    return LOG_PROBS;
}

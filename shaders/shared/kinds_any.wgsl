// Sides of any kinds.

fn p_kind() -> u32 {
    return params.p_kind;
}

fn q_kind() -> u32 {
    return params.q_kind;
}

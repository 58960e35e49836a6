//! What a program that computes under faults says of each of its calls, one line of JSON each.

use serde::{Deserialize, Serialize};

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// What it was to do.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub seconds: f64,
    /// What the library says that it survived.
    pub recovery: Recovery,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// With results, of which this many are wrong and this many missing.
    Rows {
        /// Other values than the right ones.
        wrong: usize,
        /// Fewer values than rows.
        lost: usize,
        /// The row and the two values, if one is wrong.
        example: Option<String>,
    },
    /// With an error that says what is the matter.
    Error(String),
    /// With a panic that reached the caller.
    Panic(String),
}

/// What the library survived during a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Faults of devices.
    pub faults: usize,
    /// How often a device was opened anew.
    pub reopened: usize,
    /// Rows that the CPU computed in the GPU's place.
    pub cpu_rows: usize,
    /// The first fault.
    pub reason: Option<String>,
}

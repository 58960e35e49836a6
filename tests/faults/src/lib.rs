//! Fault injection for kullback: a Vulkan layer that fails calls, or lies about them, as an
//! environment variable says; programs that compute with it underneath; and the sweep that tries
//! every fault on every call they make.
//!
//! `cargo run -p kullback-faults --bin sweep -- --help` is the way in.

pub mod child;
pub mod faults;
pub mod function;
pub mod job;
pub mod layer;
pub mod report;
pub mod rule;
pub mod script;
pub mod sweep;
pub mod verdict;

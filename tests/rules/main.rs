//! The rules of a session layer (`suite`) on axum, and on the layer itself without a framework. That they find faults is
//! shown with faults that are planted.
#![cfg(feature = "axum")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod bare;
mod faults;
mod on_axum;
mod suite;

mod axum {
    super::suite::each_rule!(super::on_axum::Axum);
}

mod without_a_framework {
    super::suite::each_rule!(super::bare::Bare);
}

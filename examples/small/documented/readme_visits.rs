//! The first program of the README.

include!(concat!(env!("OUT_DIR"), "/readme_visits.rs"));

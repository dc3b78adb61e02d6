//! The first program of the tutorial.

include!(concat!(env!("OUT_DIR"), "/tutorial_visits.rs"));

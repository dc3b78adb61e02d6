//! The tutorial's login.

include!(concat!(env!("OUT_DIR"), "/tutorial_login.rs"));

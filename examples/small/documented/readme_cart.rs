//! The README's cart and login.

include!(concat!(env!("OUT_DIR"), "/readme_cart.rs"));

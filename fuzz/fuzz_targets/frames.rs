#![no_main]

// A panic inside redb is caught by the store (C5.4); only one that gets out counts.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| ())),
    |data: &[u8]| cloakroom_torture::fuzz::frames(data)
);

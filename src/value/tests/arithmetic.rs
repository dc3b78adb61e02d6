//! Sums and extremes of stored numbers.

use crate::value::*;
use Arithmetic::{Add, Max, Min};

#[track_caller]
fn gives(arithmetic: Arithmetic, current: impl Serialize, outcome: impl Serialize) {
    let current = encode(&current).unwrap();
    assert_eq!(
        arithmetic.apply(Some(&current)).unwrap(),
        encode(&outcome).unwrap()
    );
}

#[track_caller]
fn fails(arithmetic: Arithmetic, current: impl Serialize, kind: ErrorKind) {
    let current = encode(&current).unwrap();
    assert_eq!(arithmetic.apply(Some(&current)).unwrap_err().kind(), kind);
}

#[test]
fn absent_counts_as_zero_or_as_the_operand() {
    for arithmetic in [Add(-7), Max(-7), Min(-7)] {
        assert_eq!(arithmetic.apply(None).unwrap(), encode(&-7).unwrap());
    }
}

#[test]
fn arithmetic_writes_integers_as_any_integer_type_would() {
    let edges = [
        0_i64,
        31,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        1 << 31,
        1 << 32,
    ];
    for value in edges.into_iter().flat_map(|edge| [edge, -edge, -edge - 1]) {
        gives(Add(value), 0, value);
        gives(Add(0), value, value);
        gives(Max(value), i64::MIN, value);
        gives(Min(value), i64::MAX, value);
        if let Ok(unsigned) = u64::try_from(value) {
            gives(Add(value), 0, unsigned);
            gives(Add(1), unsigned, unsigned + 1);
        }
    }
}

#[test]
fn max_and_min_keep_or_replace() {
    gives(Max(5), 7, 7);
    gives(Max(7), 5, 7);
    gives(Min(5), 7, 5);
    gives(Min(7), -5, -5);
    gives(Max(5), u64::MAX, u64::MAX);
    gives(Min(5), u64::MAX, 5);
}

#[test]
fn an_integer_keeps_its_range() {
    gives(Add(1), i64::MAX - 1, i64::MAX);
    gives(Add(-1), i64::MIN + 1, i64::MIN);
    fails(Add(1), i64::MAX, ErrorKind::Overflow);
    fails(Add(-1), i64::MIN, ErrorKind::Overflow);

    let large = i64::MAX as u64 + 1;
    gives(Add(i64::MAX), large, u64::MAX);
    gives(Add(-1), large, i64::MAX);
    gives(Add(i64::MIN), large, 0);
    fails(Add(1), u64::MAX, ErrorKind::Overflow);
}

#[test]
fn an_integer_of_128_bits_counts_if_it_fits_64() {
    gives(Add(1), -1_i128, 0);
    gives(Add(1), u128::from(u64::MAX) - 1, u64::MAX);
    for arithmetic in [Add(-1), Max(1), Min(1)] {
        fails(arithmetic, u128::from(u64::MAX) + 1, ErrorKind::Overflow);
        fails(arithmetic, i128::from(i64::MIN) - 1, ErrorKind::Overflow);
    }
}

#[test]
fn a_float_keeps_its_width() {
    gives(Add(2), 0.5_f32, 2.5_f32);
    gives(Add(-2), 0.5_f64, -1.5_f64);
    gives(Add(1), 1e300_f64, 1e300_f64);
    gives(Max(3), 2.5_f32, 3.0_f32);
    gives(Max(3), 3.5_f32, 3.5_f32);
    gives(Min(3), 3.5_f64, 3.0_f64);
    gives(Min(3), 0.1_f32, 0.1_f32);
    gives(Max(0), -0.0_f64, -0.0_f64);
    gives(Add(i64::MAX), f32::MAX, f32::MAX);
    gives(Add(i64::MIN), f32::MIN, f32::MIN);
    gives(Add(i64::MAX), f64::MAX, f64::MAX);
}

#[test]
fn a_float_that_is_not_finite_overflows() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for arithmetic in [Add(1), Max(1), Min(1)] {
            fails(arithmetic, value, ErrorKind::Overflow);
            fails(arithmetic, value as f32, ErrorKind::Overflow);
        }
    }
}

#[test]
fn arithmetic_on_what_is_no_number_is_a_mismatch() {
    for arithmetic in [Add(1), Max(1), Min(1)] {
        fails(arithmetic, "1", ErrorKind::TypeMismatch);
        fails(arithmetic, (), ErrorKind::TypeMismatch);
        fails(arithmetic, true, ErrorKind::TypeMismatch);
        fails(arithmetic, [1], ErrorKind::TypeMismatch);
        fails(arithmetic, Some(()), ErrorKind::TypeMismatch);
    }
    let error = Add(1).apply(Some(&encode("x").unwrap())).unwrap_err();
    assert!(error.to_string().ends_with("is a string"), "{error}");
}

#[test]
fn arithmetic_on_damaged_bytes_is_corrupt() {
    for bytes in [&[][..], &[0xcd, 1], &[1, 1], &[0xcb, 0, 0], &[0xc1]] {
        let error = Add(1).apply(Some(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes:?}");
    }
}

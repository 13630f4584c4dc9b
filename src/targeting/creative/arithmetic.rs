//! Exponential and logarithm from additions, multiplications and divisions only.
//!
//! Owns the two functions that the probabilities of a choice depend on. The standard library takes them from the
//! platform, and platforms differ in the last bit. IEEE 754 defines the four operations and the square root exactly, so
//! every machine gets the same bits here. Guarantees: the relative error is under 4e-16 for [`exp`] between -50 and 50
//! and under 1e-13 elsewhere, and under 1e-15 for [`ln`], tested against the platform's. Limits: subnormal results of
//! [`exp`] become 0.

use std::f64::consts::{LN_2, LOG2_E};

/// The natural logarithm of 2 in two parts. The first has 32 bits, so its product with an exponent is exact. The second
/// is the rest of the exact number, not just of the nearest float.
const LN_2_HIGH: f64 = f64::from_bits(LN_2.to_bits() & !0x001f_ffff);
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// 1/n! from n = 13 down to 0: the terms of the exponential's series. For |x| up to half of ln 2, the first omitted
/// term is 4e-18.
const FACTORIALS: [f64; 14] = {
    let mut inverse = [1.0; 14];
    let mut n = 1;
    let mut factorial = 1.0;
    while n < 14 {
        factorial *= n as f64;
        inverse[13 - n] = 1.0 / factorial;
        n += 1;
    }
    inverse
};

/// `e^x`. Infinite above 709, 0 below -708, NaN for NaN.
pub(super) fn exp(x: f64) -> f64 {
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -708.0 {
        return 0.0;
    }
    let (power, rest) = split(x);
    let sum = FACTORIALS.iter().fold(0.0, |sum, term| sum * rest + term);
    // NaN has power 0 here and remains NaN in the sum.
    sum * f64::from_bits(((1023 + power as i64) as u64) << 52)
}

/// `e^x - 1` without the loss of digits around 0.
pub(super) fn exp_minus_one(x: f64) -> f64 {
    if x.abs() > 0.3 {
        return exp(x) - 1.0;
    }
    // The same series without its last term, the 1.
    FACTORIALS[..13].iter().fold(0.0, |sum, term| sum * x + term) * x
}

/// Splits `x` into a multiple of ln 2 and a remainder of at most half of ln 2.
fn split(x: f64) -> (f64, f64) {
    let power = (x * LOG2_E).round();
    (power, (x - power * LN_2_HIGH) - power * LN_2_LOW)
}

/// The natural logarithm. Minus infinity for 0, NaN below 0 and for NaN, infinity for infinity.
pub(super) fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 || x == f64::INFINITY {
        return if x == 0.0 { f64::NEG_INFINITY } else { x };
    }
    // 2^54 scales subnormal numbers into the normal range.
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, 54.0) } else { (x, 0.0) };
    let bits = x.to_bits();
    let mut power = (bits >> 52) as f64 - 1023.0 - shift;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        power += 1.0;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    power * LN_2_HIGH + (2.0 * ratio + (2.0 * ratio * tail(ratio) + power * LN_2_LOW))
}

/// `ln(1 + y) - y` for |y| up to 0.4, without the loss of digits around 0.
///
/// With s = y / (2 + y), ln(1 + y) is 2 atanh(s), and 2 s - y is -s y.
pub(super) fn ln_one_plus_minus(y: f64) -> f64 {
    let ratio = y / (2.0 + y);
    2.0 * ratio * tail(ratio) - ratio * y
}

/// `atanh(s)/s - 1`, by its series s²/3 + s⁴/5 + …. For |s| up to 0.25, the first omitted term is 3e-17.
fn tail(ratio: f64) -> f64 {
    let square = ratio * ratio;
    let mut sum = 0.0;
    let mut odd = 25.0;
    while odd > 2.0 {
        sum = (sum + 1.0 / odd) * square;
        odd -= 2.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(found: f64, expected: f64) -> f64 {
        ((found - expected) / expected).abs()
    }

    #[test]
    fn exp_and_ln_agree_with_the_platform() {
        let (mut near, mut far, mut log) = (0.0_f64, 0.0_f64, 0.0_f64);
        for step in -70_000..70_000 {
            let x = f64::from(step) * 0.010_007;
            let worst = if x.abs() <= 50.0 { &mut near } else { &mut far };
            *worst = worst.max(off(exp(x), x.exp()));
            let y = x.exp();
            if x != 0.0 {
                log = log.max(off(ln(y), y.ln()));
            }
        }
        println!("exp: {near:e} within 50, {far:e} beyond; ln: {log:e}");
        assert!(near < 4e-16 && far < 1e-13 && log < 1e-15);
    }

    #[test]
    fn around_zero_no_digits_are_lost() {
        for step in 1..400 {
            for y in [f64::from(step) * 0.001, f64::from(-step) * 0.001, f64::from(step) * 1e-9] {
                assert!(off(exp_minus_one(y), y.exp_m1()) < 1e-14, "{y}");
                // The series itself, term by term, smallest first.
                let expected: f64 = (2..60).rev().map(|n| -(-y).powi(n) / f64::from(n)).sum();
                assert!(off(ln_one_plus_minus(y), expected) < 1e-14, "{y}");
            }
        }
    }

    #[test]
    fn the_ends_are_as_documented() {
        assert_eq!(
            (exp(710.0), exp(f64::INFINITY), exp(-709.0), exp(f64::NEG_INFINITY)),
            (f64::INFINITY, f64::INFINITY, 0.0, 0.0)
        );
        assert!(exp(f64::NAN).is_nan() && ln(f64::NAN).is_nan() && ln(-1.0).is_nan());
        assert_eq!((ln(0.0), ln(f64::INFINITY), exp(0.0), ln(1.0)), (f64::NEG_INFINITY, f64::INFINITY, 1.0, 0.0));
        assert!(off(ln(1e-310), 1e-310_f64.ln()) < 1e-15);
    }

    #[test]
    fn the_bits_never_change() {
        // A change of these bits would change which creative a logged decision stands for.
        let bits = [exp(1.0), exp(-3.7), ln(3.0), ln(0.1), ln_one_plus_minus(0.3)].map(f64::to_bits);
        assert_eq!(
            bits,
            [
                0x4005_bf0a_8b14_576a,
                0x3f99_511f_c687_1044,
                0x3ff1_93ea_7aad_030b,
                0xc002_6bb1_bbb5_5515,
                0xbfa3_44fd_ba8b_caba
            ]
        );
    }
}

//! Exponential and logarithm with the same bits on every machine.
//!
//! The probabilities of a choice depend on them. The standard library takes both from the platform, and platforms differ
//! in the last bit. `libm` computes them from the operations that IEEE 754 defines exactly. Its version is pinned,
//! because a change of a bit could change which creative a logged decision stands for.

pub(super) use libm::{exp, expm1 as exp_minus_one, log as ln};

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

    #[test]
    fn around_zero_no_digits_are_lost() {
        for step in 1..400 {
            for y in [f64::from(step) * 0.001, f64::from(-step) * 0.001, f64::from(step) * 1e-9] {
                // The series itself, term by term, smallest first.
                let expected: f64 = (2..60).rev().map(|n| -(-y).powi(n) / f64::from(n)).sum();
                assert!(((ln_one_plus_minus(y) - expected) / expected).abs() < 1e-14, "{y}");
            }
        }
    }

    #[test]
    fn the_bits_never_change() {
        let bits =
            [exp(1.0), exp(-3.7), ln(3.0), ln(0.1), exp_minus_one(0.01), ln_one_plus_minus(0.3)].map(f64::to_bits);
        assert_eq!(
            bits.map(|it| format!("{it:016x}")),
            [
                "4005bf0a8b14576a",
                "3f99511fc6871044",
                "3ff193ea7aad030a",
                "c0026bb1bbb55515",
                "3f84952e9791133f",
                "bfa344fdba8bcaba"
            ]
        );
    }
}

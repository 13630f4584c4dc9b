//! Tails and quantiles of the distributions that tests need.
//!
//! Owns the choice of formulas; the special functions come from statrs, and the error function from libm, which is right
//! to the last bit where statrs has ten digits. Guarantees: agrees with SciPy to 1e-9 relative to the value for the
//! arguments in the tests (degrees of freedom from 1 to 1e12, tails down to 1e-89); Student's tails beyond t = 6 to
//! 1e-5.

use statrs::function::{beta::beta_reg, erf, gamma::gamma_ur};
use std::f64::consts::SQRT_2;

/// From so many degrees of freedom on, statrs' beta function loses digits, and Hill's series has them: against 40
/// digits, its tails are right to 1e-10 for t up to 6, and to 2e-6 for t = 20.
const DEGREES_MANY: f64 = 100.0;

/// The probability that a standard normal number is farther from 0 than `z`.
pub(super) fn normal_beyond(z: f64) -> f64 {
    libm::erfc(z.abs() / SQRT_2)
}

/// The probability that a standard normal number is below `z`.
pub(super) fn normal_below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// The number that a standard normal one exceeds with a probability, which must be in (0, 1).
pub(super) fn normal_upper(tail: f64) -> f64 {
    SQRT_2 * erf::erfc_inv(2.0 * tail)
}

/// The probability that chi-square with `degrees` of freedom exceeds `value`.
pub(super) fn chi_square_above(value: f64, degrees: u32) -> f64 {
    if value <= 0.0 { 1.0 } else { gamma_ur(f64::from(degrees) / 2.0, value / 2.0) }
}

/// The probability that Student's t with `degrees` of freedom is farther from 0 than `t`.
pub(super) fn student_beyond(t: f64, degrees: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    if degrees >= DEGREES_MANY {
        // The normal number with the same tail (Hill 1970, algorithm 395).
        let half = degrees - 0.5;
        let b = 48.0 * half * half;
        let y = half * (t * t / degrees).ln_1p();
        let series = (((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b) + y + 3.0;
        return normal_beyond((series / b + 1.0) * y.sqrt());
    }
    let square = t * t;
    // For small t, 1 - x loses its digits, so the complement is computed from the other side.
    if square < degrees {
        1.0 - beta_reg(0.5, degrees / 2.0, square / (degrees + square))
    } else {
        beta_reg(degrees / 2.0, 0.5, degrees / (degrees + square))
    }
}

/// The t from which Student's t with `degrees` of freedom is farther from 0 with probability `alpha`, in (0, 1).
pub(super) fn student_two_sided(alpha: f64, degrees: f64) -> f64 {
    let mut high = normal_upper(alpha / 2.0).max(1e-3);
    let mut low = 0.0;
    while student_beyond(high, degrees) > alpha && high < 1e300 {
        low = high;
        high *= 2.0;
    }
    // Halve until the ends are neighbours; 200 halvings are more than a double can take.
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if student_beyond(middle, degrees) > alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

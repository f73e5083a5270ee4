//! Exact division by a fixed positive number, without a division.

/// A divisor with its reciprocal (Granlund and Montgomery, "Division by invariant integers using
/// multiplication", 1994, theorem 4.2 with N = 63): for `l = ceil(log2 d)` and
/// `m = floor(2^(63+l) / d) + 1`, `floor(n / d) = floor(n m / 2^(63+l))` for every `0 <= n < 2^63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divider {
    divisor: i64,
    reciprocal: u64,
    shift: u32,
}

impl Divider {
    /// A divisor below 1 counts as 1.
    pub fn new(divisor: i64) -> Self {
        let divisor = divisor.max(1);
        let shift = u64::BITS - (divisor as u64 - 1).leading_zeros();
        // The divisor is above 2^(shift-1), so the quotient is below 2^64 and adding one still fits.
        let reciprocal = ((1_u128 << (63 + shift)) / divisor as u128 + 1) as u64;
        Self { divisor, reciprocal, shift }
    }

    pub fn divisor(self) -> i64 {
        self.divisor
    }

    /// `floor(n / divisor)` for `n >= 0`.
    #[inline]
    pub fn floor(self, n: i64) -> i64 {
        // Doubled, the product's upper half is what stands above bit 63.
        let doubled = u128::from((n as u64) << 1);
        (((doubled * u128::from(self.reciprocal)) >> 64) as u64 >> self.shift) as i64
    }

    /// `ceil(n / divisor)` for `n > 0`.
    #[inline]
    pub fn ceil(self, n: i64) -> i64 {
        self.floor(n.wrapping_sub(1)).wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees(n: i64, d: i64) {
        let divider = Divider::new(d);
        assert_eq!(divider.floor(n), n / d, "{n} / {d}");
        if n > 0 {
            assert_eq!(i128::from(divider.ceil(n)), (i128::from(n) + i128::from(d) - 1) / i128::from(d), "{n} / {d}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn it_divides(n in 0..=i64::MAX, d in 1..=i64::MAX, n_shift in 0_u32..63, d_shift in 0_u32..63) {
            let (n, d) = (n >> n_shift, (d >> d_shift).max(1));
            agrees(n, d);
            // The hard numerators stand beside multiples of the divisor.
            let multiple = n / d * d;
            agrees(multiple, d);
            agrees((multiple - 1).max(0), d);
        }
    }

    #[test]
    fn it_divides_at_the_ends() {
        let powers = (0..63).map(|bit| 1_i64 << bit);
        let near = powers.flat_map(|p| [p - 1, p, p.saturating_add(1)]).chain([i64::MAX - 1, i64::MAX]);
        let numbers: Vec<i64> = near.collect();
        for &d in numbers.iter().filter(|d| **d > 0) {
            for &n in &numbers {
                agrees(n, d);
            }
        }
    }
}

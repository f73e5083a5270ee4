//! Exact decimals: an `i64` mantissa with a scale, parsed from the text a venue sent.
//!
//! Nothing is ever rounded on the way in: what an `i64` cannot hold is a typed error.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::swar;

/// The largest number of fraction digits an `i64` mantissa carries.
pub const MAX_SCALE: u8 = 18;

/// Powers of ten that an `i64` holds, by exponent.
pub const POW10: [i64; 19] = {
    let mut powers = [1; 19];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// For each exponent `k`: the inverse of 5^k modulo 2^64, and the largest quotient of a `u64` by 5^k.
const DIVIDE_POW5: [(u64, u64); 19] = {
    // 5 * 0xcccccccccccccccd == 1 modulo 2^64.
    let mut table = [(1_u64, u64::MAX); 19];
    let mut power: u64 = 1;
    let mut k = 1;
    while k < table.len() {
        power *= 5;
        table[k] = (table[k - 1].0.wrapping_mul(0xcccc_cccc_cccc_cccd), u64::MAX / power);
        k += 1;
    }
    table
};

/// `value / 10^k` when that is whole, for `k` up to 18.
///
/// Exact division by a multiplication with the modular inverse (Granlund and Montgomery, "Division by
/// Invariant Integers using Multiplication", section 9): venues print trailing zeros on every level.
#[inline]
fn divide_pow10(value: i64, k: u8) -> Option<i64> {
    let magnitude = value.unsigned_abs();
    let (inverse, most) = DIVIDE_POW5[k as usize];
    if magnitude & ((1 << k) - 1) != 0 {
        return None;
    }
    let quotient = (magnitude >> k).wrapping_mul(inverse);
    if quotient > most {
        return None;
    }
    Some(if value < 0 { (quotient as i64).wrapping_neg() } else { quotient as i64 })
}

/// Powers of ten that an `f64` holds exactly, by exponent.
const POW10_F64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Why a text or a change of scale gave no decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecimalError {
    /// Not a decimal number.
    #[error("not a decimal number")]
    Syntax,
    /// Magnitude beyond what a 64-bit mantissa holds.
    #[error("number too large for an exact 64-bit decimal")]
    Overflow,
    /// More than 18 significant fraction digits.
    #[error("more fraction digits than an exact 64-bit decimal holds")]
    Precision,
}

/// An exact decimal, `mantissa / 10^scale`.
///
/// A parsed decimal keeps its printed fraction digits as its scale, so `1.50` is `150` at scale 2:
/// two decimals of the same value may differ here. Compare with [`Decimal::normal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decimal {
    /// The digits.
    pub mantissa: i64,
    /// How many of them stand behind the point, 0 to 18.
    pub scale: u8,
}

impl Decimal {
    /// `mantissa / 10^scale`.
    pub const fn new(mantissa: i64, scale: u8) -> Self {
        Self { mantissa, scale }
    }

    /// Parses a whole text.
    pub fn parse(text: &[u8]) -> Result<Self, DecimalError> {
        match Self::parse_prefix(text)? {
            (decimal, end) if end == text.len() => Ok(decimal),
            _ => Err(DecimalError::Syntax),
        }
    }

    /// Parses the number at the start of `text` and tells where it ends.
    #[inline]
    pub fn parse_prefix(text: &[u8]) -> Result<(Self, usize), DecimalError> {
        match Self::parse_short(text) {
            Some((decimal, rest)) if !matches!(rest, [b'e' | b'E', ..]) => Ok((decimal, text.len() - rest.len())),
            _ => Self::parse_any(text),
        }
    }

    /// The usual forms: one to seven digits, then perhaps a point and digits up to the fifteenth byte. The decimal and
    /// what stands behind it, at least one byte, or `None` for any other form.
    #[inline(always)]
    pub(crate) fn parse_short(text: &[u8]) -> Option<(Self, &[u8])> {
        let digits = swar::digits(swar::load(text)?);
        let others = swar::others(digits);
        let whole = swar::before(others);
        if whole == 0 || others == 0 {
            return None;
        }
        if swar::at(digits, others) != u64::from(b'.' ^ b'0') {
            return Some((Self { mantissa: swar::first(digits, whole) as i64, scale: 0 }, &text[whole..]));
        }
        // With the point taken out, what stands behind it moves up to the digits before it.
        let behind = others & (others - 1);
        let before = ((others ^ behind) >> 7) - 1;
        let closed = digits & before | digits >> 8 & !before;
        if behind != 0 {
            let length = swar::before(behind);
            let scale = length - 1 - whole;
            let mantissa = swar::first(closed, length - 1) as i64;
            return (scale > 0).then_some((Self { mantissa, scale: scale as u8 }, &text[length..]));
        }
        // Seven digits are in the first word, the rest stands in the next.
        let text = &text[8..];
        let digits = swar::digits(swar::load(text)?);
        let more = swar::before(swar::others(digits));
        let scale = 7 - whole + more;
        if more == 8 || scale == 0 {
            return None;
        }
        let mantissa = swar::first(closed, 7) as i64 * POW10[more] + swar::first(digits, more) as i64;
        Some((Self { mantissa, scale: scale as u8 }, &text[more..]))
    }

    /// Any form, byte by byte.
    fn parse_any(text: &[u8]) -> Result<(Self, usize), DecimalError> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut at = start;
        let mut mantissa: u64 = 0;
        while let Some(digit) = digit_at(text, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        let mut digits = at - start;
        if digits == 0 {
            return Err(DecimalError::Syntax);
        }
        let mut scale = 0;
        if text.get(at) == Some(&b'.') {
            let point = at;
            at += 1;
            while let Some(digit) = digit_at(text, at) {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
                at += 1;
            }
            scale = at - point - 1;
            if scale == 0 {
                return Err(DecimalError::Syntax);
            }
            digits += scale;
        }
        if digits > MAX_SCALE as usize || matches!(text.get(at), Some(b'e' | b'E')) {
            return Self::parse_long(text, start, negative);
        }
        let mantissa = mantissa as i64;
        Ok((Self { mantissa: if negative { -mantissa } else { mantissa }, scale: scale as u8 }, at))
    }

    /// The rare forms: more than 18 digits, or an exponent.
    #[cold]
    fn parse_long(text: &[u8], start: usize, negative: bool) -> Result<(Self, usize), DecimalError> {
        let mut at = start;
        let mut mantissa: i128 = 0;
        let mut scale: i64 = 0;
        // Zeros are held back until a digit follows: a tail of zeros in the fraction means nothing.
        let mut zeros: i64 = 0;
        let mut fraction = false;
        loop {
            match text.get(at) {
                Some(b'0') => zeros += 1,
                Some(digit @ b'1'..=b'9') => {
                    for _ in 0..=zeros.min(40) {
                        mantissa =
                            if mantissa == 0 { 0 } else { mantissa.checked_mul(10).ok_or(DecimalError::Overflow)? };
                    }
                    if fraction {
                        scale += zeros + 1;
                    }
                    if zeros > 40 && mantissa != 0 {
                        return Err(DecimalError::Overflow);
                    }
                    mantissa += i128::from(digit - b'0');
                    zeros = 0;
                }
                Some(b'.') if !fraction => {
                    // Zeros before the point do count.
                    if mantissa != 0 {
                        for _ in 0..zeros.min(40) {
                            mantissa = mantissa.checked_mul(10).ok_or(DecimalError::Overflow)?;
                        }
                    }
                    zeros = 0;
                    fraction = true;
                }
                _ => break,
            }
            at += 1;
        }
        if !fraction && mantissa != 0 {
            for _ in 0..zeros.min(40) {
                mantissa = mantissa.checked_mul(10).ok_or(DecimalError::Overflow)?;
            }
        }
        if matches!(text.get(at), Some(b'e' | b'E')) {
            at += 1;
            let minus = text.get(at) == Some(&b'-');
            if matches!(text.get(at), Some(b'-' | b'+')) {
                at += 1;
            }
            let first = at;
            let mut exponent: i64 = 0;
            while let Some(digit) = digit_at(text, at) {
                exponent = (exponent * 10 + digit as i64).min(100_000);
                at += 1;
            }
            if at == first {
                return Err(DecimalError::Syntax);
            }
            scale += if minus { exponent } else { -exponent };
        }
        if mantissa == 0 {
            return Ok((Self::default(), at));
        }
        while scale < 0 {
            mantissa = mantissa.checked_mul(10).ok_or(DecimalError::Overflow)?;
            scale += 1;
        }
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        let mantissa = i64::try_from(if negative { -mantissa } else { mantissa })
            .map_err(|_| if scale > 0 { DecimalError::Precision } else { DecimalError::Overflow })?;
        if scale > i64::from(MAX_SCALE) {
            return Err(DecimalError::Precision);
        }
        Ok((Self { mantissa, scale: scale as u8 }, at))
    }

    /// The mantissa at another scale; `Precision` when digits would be lost.
    #[inline]
    pub fn at_scale(self, scale: u8) -> Result<i64, DecimalError> {
        if scale == self.scale {
            return Ok(self.mantissa);
        }
        if scale > self.scale {
            let factor = POW10.get((scale - self.scale) as usize).ok_or(DecimalError::Overflow)?;
            return self.mantissa.checked_mul(*factor).ok_or(DecimalError::Overflow);
        }
        divide_pow10(self.mantissa, self.scale - scale).ok_or(DecimalError::Precision)
    }

    /// The same value without trailing zeros in its fraction.
    #[must_use]
    pub fn normal(mut self) -> Self {
        while self.scale > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The nearest `f64`, and whether it may fail to print as the exact value (more than 15
    /// significant digits).
    #[inline]
    pub fn to_f64(self) -> (f64, bool) {
        wide_to_f64(i128::from(self.mantissa), self.scale)
    }
}

impl fmt::Display for Decimal {
    /// The exact value in plain notation, without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wide(f, i128::from(self.mantissa), self.scale)
    }
}

#[inline]
fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// The nearest `f64` of `mantissa / 10^scale`, and whether more than 15 significant digits made it
/// inexact in print.
#[inline]
pub fn wide_to_f64(mantissa: i128, scale: u8) -> (f64, bool) {
    // Both operands are exact below 2^53 and 10^22, so that one division rounds correctly.
    match (i64::try_from(mantissa), POW10_F64.get(scale as usize)) {
        (Ok(mantissa), Some(power)) if mantissa.unsigned_abs() < 1_000_000_000_000_000 => {
            (mantissa as f64 / power, false)
        }
        _ => wide_to_f64_long(mantissa, scale),
    }
}

#[cold]
fn wide_to_f64_long(mut mantissa: i128, mut scale: u8) -> (f64, bool) {
    while scale > 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    let mut significant = mantissa.unsigned_abs();
    while significant != 0 && significant.is_multiple_of(10) {
        significant /= 10;
    }
    let text = Wide(mantissa, scale).to_string();
    // Rust's float parser rounds correctly; the text is a plain decimal by construction.
    (text.parse().unwrap_or(f64::NAN), significant >= 1_000_000_000_000_000)
}

struct Wide(i128, u8);

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wide(f, self.0, self.1)
    }
}

/// Writes `mantissa / 10^scale` in plain notation, without trailing zeros.
pub fn write_wide(out: &mut impl fmt::Write, mantissa: i128, scale: u8) -> fmt::Result {
    let factor = 10_u128.pow(u32::from(scale));
    let magnitude = mantissa.unsigned_abs();
    if mantissa < 0 {
        out.write_char('-')?;
    }
    write!(out, "{}", magnitude / factor)?;
    let mut fraction = magnitude % factor;
    if fraction == 0 {
        return Ok(());
    }
    let mut width = scale as usize;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    write!(out, ".{fraction:0width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<(i64, u8), DecimalError> {
        Decimal::parse(text.as_bytes()).map(|d| (d.mantissa, d.scale))
    }

    #[test]
    fn forms() {
        assert_eq!(parse("0"), Ok((0, 0)));
        assert_eq!(parse("-1.50"), Ok((-150, 2)));
        assert_eq!(parse("2e-8"), Ok((2, 8)));
        assert_eq!(parse("5.0E-4"), Ok((5, 4)));
        assert_eq!(parse("1.5e3"), Ok((1500, 0)));
        assert_eq!(parse("100000000000000000000e-5"), Ok((1_000_000_000_000_000, 0)));
        assert_eq!(parse("0.000000000000000000000e9"), Ok((0, 0)));
        assert_eq!(parse("123456.0000000000000000000000000"), Ok((123_456, 0)));
        assert_eq!(parse("0000000000000000000000012.5"), Ok((125, 1)));
        assert_eq!(parse("9223372036854775807"), Ok((i64::MAX, 0)));
        assert_eq!(parse("-9223372036854775808"), Ok((i64::MIN, 0)));
        assert_eq!(parse("1000.00000000000000000001"), Err(DecimalError::Precision));
        for bad in
            ["", "-", ".", "1.", ".5", "+1", "1e", "1e-", "NaN", "Infinity", "0x1", "1,5", " 1", "1 ", "--1", "1.2.3"]
        {
            assert_eq!(parse(bad), Err(DecimalError::Syntax), "{bad}");
        }
        for large in ["9223372036854775808", "1e400", "1e19", "99999999999999999999999999999999999999999999999"] {
            assert_eq!(parse(large), Err(DecimalError::Overflow), "{large}");
        }
        for fine in ["1e-19", "0.0000000000000000001", "1.0000000000000000000001"] {
            assert_eq!(parse(fine), Err(DecimalError::Precision), "{fine}");
        }
    }

    proptest! {
        #[test]
        fn exact_division_is_division(value: i64, zeros in 0..=18_u8, k in 0..=18_u8) {
            let value = value / POW10[zeros as usize] * POW10[zeros as usize];
            let power = POW10[k as usize];
            prop_assert_eq!(divide_pow10(value, k), (value % power == 0).then(|| value / power));
        }

        #[test]
        fn text_round_trips(mantissa: i64, scale in 0..=MAX_SCALE) {
            let decimal = Decimal::new(mantissa, scale);
            let parsed = Decimal::parse(decimal.to_string().as_bytes());
            prop_assert_eq!(parsed.map(Decimal::normal), Ok(decimal.normal()));
        }

        #[test]
        fn exponents_mean_shifts(mantissa in -999_999_999_i64..=999_999_999, exponent in -9_i32..=9) {
            let plain = if exponent >= 0 {
                Decimal::new(mantissa * POW10[exponent as usize], 0)
            } else {
                Decimal::new(mantissa, (-exponent) as u8)
            };
            let parsed = Decimal::parse(format!("{mantissa}e{exponent}").as_bytes());
            prop_assert_eq!(parsed.map(Decimal::normal), Ok(plain.normal()));
        }

        #[test]
        fn scales_agree_or_refuse(mantissa: i64, from in 0..=MAX_SCALE, to in 0..=MAX_SCALE) {
            let decimal = Decimal::new(mantissa, from);
            if let Ok(moved) = decimal.at_scale(to) {
                prop_assert_eq!(Decimal::new(moved, to).normal(), decimal.normal());
            }
        }

        #[test]
        fn floats_are_the_nearest(mantissa: i64, scale in 0..=MAX_SCALE) {
            let decimal = Decimal::new(mantissa, scale);
            let (float, rounded) = decimal.to_f64();
            prop_assert_eq!(Some(float), decimal.to_string().parse().ok());
            if !rounded {
                prop_assert_eq!(Decimal::parse(format!("{float:e}").as_bytes()).map(Decimal::normal), Ok(decimal.normal()));
            }
        }

        #[test]
        fn short_forms_agree_with_the_general_one(text in "-?[0-9]{0,9}[.]?[0-9]{0,9}[eE\", ]?[0-9\"]{0,9}") {
            prop_assert_eq!(Decimal::parse_prefix(text.as_bytes()), Decimal::parse_any(text.as_bytes()));
        }

        #[test]
        fn any_text_parses_or_fails_cleanly(text in "[-+0-9.eE]{0,45}") {
            if let Ok(decimal) = Decimal::parse(text.as_bytes()) {
                let expected: f64 = text.parse().expect("a float reads every decimal");
                let (float, _) = decimal.to_f64();
                prop_assert_eq!(float.to_bits() << 1, expected.to_bits() << 1, "apart from the sign of zero");
            }
        }
    }
}

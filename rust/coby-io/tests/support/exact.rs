//! Exact numbers of the oracles: plain integers and text, sharing nothing with the code under test.

/// Fraction digits of a [`fixed`] number.
pub const FRACTION: usize = 18;

/// A decimal text as a whole number of 10^-18.
pub fn fixed(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= FRACTION, "{text} is finer than the oracle's unit");
    format!("{whole}{fraction:0<FRACTION$}").parse().unwrap_or_else(|_| panic!("{text} is no plain decimal"))
}

/// A mantissa of `scale` decimals as a whole number of 10^-18.
pub fn raise(mantissa: i64, scale: u8) -> i128 {
    i128::from(mantissa) * 10_i128.pow(FRACTION as u32 - u32::from(scale))
}

/// A decimal text without trailing zeros.
pub fn plain(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

/// An exact sum or product: `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    mantissa: i128,
    scale: u32,
}

impl Exact {
    /// Nothing.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0 };

    /// A decimal text.
    pub fn parse(text: &str) -> Self {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let mantissa = format!("{whole}{fraction}").parse().unwrap_or_else(|_| panic!("{text} is no plain decimal"));
        Self { mantissa, scale: fraction.len() as u32 }
    }

    fn at(self, scale: u32) -> i128 {
        self.mantissa * 10_i128.pow(scale - self.scale)
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Self {
        let scale = self.scale.max(other.scale);
        Self { mantissa: self.at(scale) + other.at(scale), scale }
    }

    /// The product.
    pub fn times(self, other: Self) -> Self {
        Self { mantissa: self.mantissa * other.mantissa, scale: self.scale + other.scale }
    }

    /// Whether this is the smaller number.
    pub fn less(self, other: Self) -> bool {
        let scale = self.scale.max(other.scale);
        self.at(scale) < other.at(scale)
    }

    /// The nearest float, by way of the decimal text.
    pub fn float(self) -> f64 {
        format!("{}e-{}", self.mantissa, self.scale).parse().expect("digits and an exponent are a number")
    }
}

/// Nanoseconds of `2021-04-17T16:43:37.089723Z`, by counting days.
pub fn nanos_of(text: &str) -> i64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect("digits stand here");
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut days = day - 1;
    days += (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum::<i64>();
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += lengths[..month as usize - 1].iter().sum::<i64>();
    let seconds = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    let fraction = text[19..].trim_start_matches('.').trim_end_matches('Z');
    seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<i64>().expect("fraction digits")
}

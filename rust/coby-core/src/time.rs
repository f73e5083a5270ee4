//! Times on the wire to nanoseconds since the Unix epoch.

use crate::record::Nanos;
use crate::swar;

/// Nanoseconds in a microsecond, a millisecond, a second, a minute and a day.
pub const MICRO: i64 = 1_000;
/// A millisecond.
pub const MILLI: i64 = 1_000_000;
/// A second.
pub const SECOND: i64 = 1_000_000_000;
/// A minute.
pub const MINUTE: i64 = 60 * SECOND;
/// A day.
pub const DAY: i64 = 86_400 * SECOND;

/// `count` units of `unit` nanoseconds, `None` beyond the range of [`Nanos`] (year 2262).
#[inline]
pub fn nanos(count: i64, unit: i64) -> Option<Nanos> {
    count.checked_mul(unit)
}

/// Year, month and day (UTC) of a time.
///
/// Civil-from-days as in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub fn date_of(time: Nanos) -> (i64, u32, u32) {
    let days = time.div_euclid(DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Days since the epoch of a civil date; the inverse of [`date_of`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Parses `2026-08-24T22:21:57.110183Z` (RFC 3339, UTC, up to nine fraction digits; a space may stand
/// for the `T`, and `+00:00` for the `Z`). `None` for anything else, and for dates before 1970, which
/// venues send for "no time".
pub fn rfc3339(text: &[u8]) -> Option<Nanos> {
    let number = |from: usize, to: usize| {
        text.get(from..to)?.iter().try_fold(0_i64, |value, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then_some(value * 10 + i64::from(digit))
        })
    };
    let is = |at: usize, bytes: &[u8]| text.get(at).is_some_and(|byte| bytes.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1970..2262).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut fraction = 0;
    let mut at = 19;
    if is(at, b".") {
        at += 1;
        let start = at;
        while is(at, b"0123456789") && at - start < 9 {
            at += 1;
        }
        fraction = number(start, at)? * crate::decimal::POW10[9 - (at - start)];
        if at == start {
            return None;
        }
    }
    if !matches!(text.get(at..)?, b"Z" | b"+00:00") {
        return None;
    }
    let seconds = days_of(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * SECOND + fraction)
}

/// Reads times of which most are of the day of the one before, as in a feed.
#[derive(Clone, Debug, Default)]
pub struct Day {
    date: [u8; 10],
    start: Nanos,
}

impl Day {
    /// As [`rfc3339`] reads it.
    #[inline]
    pub fn rfc3339(&mut self, text: &[u8]) -> Option<Nanos> {
        if let Some((date, clock)) = text.split_first_chunk::<10>() {
            if *date != self.date {
                self.begin(date);
            }
            if *date == self.date
                && let Some(micros) = micros_of_day(clock)
            {
                return Some(self.start + micros * MICRO);
            }
        }
        rfc3339(text)
    }

    #[cold]
    fn begin(&mut self, date: &[u8; 10]) {
        let mut midnight = *b"0000-00-00T00:00:00Z";
        midnight[..10].copy_from_slice(date);
        if let Some(start) = rfc3339(&midnight) {
            (self.date, self.start) = (*date, start);
        }
    }
}

/// `T22:21:57.110183Z`; `None` for any other form.
#[inline]
fn micros_of_day(clock: &[u8]) -> Option<i64> {
    // Exchanged with the form, digits become their values, and what stands between them becomes zero.
    const FORM: [u64; 2] = [u64::from_le_bytes(*b"T00:00:0"), u64::from_le_bytes(*b"0.000000")];
    const MARKS: [u64; 2] = [u64::from_le_bytes([255, 0, 0, 255, 0, 0, 255, 0]), 255 << 8];
    let clock: &[u8; 17] = clock.try_into().ok()?;
    let [first, second] = [swar::load(clock)? ^ FORM[0], swar::load(&clock[8..])? ^ FORM[1]];
    let wrong = swar::others(first) | swar::others(second) | first & MARKS[0] | second & MARKS[1];
    if wrong != 0 || clock[16] != b'Z' {
        return None;
    }
    let digit = |word: u64, at: u32| (word >> (8 * at) & 0xff) as i64;
    let hour = 10 * digit(first, 1) + digit(first, 2);
    let minute = 10 * digit(first, 4) + digit(first, 5);
    let seconds = 10 * digit(first, 7) + digit(second, 0);
    if hour > 23 || minute > 59 || seconds > 60 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + seconds) * 1_000_000 + swar::number(second & !0xffff) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        assert_eq!(rfc3339(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(rfc3339(b"2021-04-17T16:43:37.075687Z"), Some(1_618_677_817_075_687_000));
        assert_eq!(rfc3339(b"2026-08-24T22:34:13.793075885Z"), Some(1_787_610_853_793_075_885));
        for bad in [
            "0001-01-01T00:00:00.000000Z",
            "2021-13-01T00:00:00Z",
            "2021-01-01",
            "2021-01-01T00:00:00",
            "2021-01-01T00:00:00.Z",
        ] {
            assert_eq!(rfc3339(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_day_reads_what_any_time_reads(
            texts in prop::collection::vec(
                "(1969|2021|2300)-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.]([0-9]{0,10}|[0-9]{6}))?(Z|[+]00:00)?",
                1..4,
            ),
            at in 0..30_usize,
            byte: u8,
        ) {
            let mut day = Day::default();
            for text in texts {
                prop_assert_eq!(day.rfc3339(text.as_bytes()), rfc3339(text.as_bytes()));
                prop_assert_eq!(day.rfc3339(text.as_bytes()), rfc3339(text.as_bytes()));
                let mut damaged = text.into_bytes();
                if let Some(place) = damaged.get_mut(at) {
                    *place = byte;
                }
                prop_assert_eq!(day.rfc3339(&damaged), rfc3339(&damaged));
            }
        }

        #[test]
        fn dates_round_trip(days in 0_i64..100_000, of_day in 0..DAY) {
            let (year, month, day) = date_of(days * DAY + of_day);
            prop_assert_eq!(days_of(year, i64::from(month), i64::from(day)), days);
            let text = format!("{year:04}-{month:02}-{day:02}T00:00:00.000000001Z");
            prop_assert_eq!(rfc3339(text.as_bytes()), Some(days * DAY + 1));
        }
    }
}

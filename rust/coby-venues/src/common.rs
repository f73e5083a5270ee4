//! What several venues need in the same way, none of it protocol.

use coby_core::decimal::{Decimal, MAX_SCALE};
use coby_core::instrument::{InstrumentId, Instruments};
use coby_core::level::Side;
use coby_core::record::Nanos;
use coby_core::scan::{Cursor, ScanError, Seen};
use coby_core::time::{DAY, MILLI, SECOND, date_of, nanos, rfc3339};
use coby_core::venue::{BookHead, Class, ConnectionPlan, Sequence, Sink, Subscription, VenueError, VenueErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a REST answer off the hot path.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, VenueError> {
    serde_json::from_slice(body).map_err(|error| {
        VenueError::venue(Class::Ignore, format!("answer does not have the documented shape: {error}").as_bytes())
    })
}

/// A decimal in a REST answer; `None` for a text that is none.
pub fn decimal(text: &str) -> Option<Decimal> {
    Decimal::parse(text.as_bytes()).ok()
}

/// A positive step size, such as a tick size; `None` for zero or nonsense.
pub fn step(text: &str) -> Option<Decimal> {
    decimal(text).filter(|step| step.mantissa > 0).map(Decimal::normal)
}

/// A positive step size or amount that the venue prints as a text or as a number; `None` for anything else.
pub fn amount(value: &serde_json::Value) -> Option<Decimal> {
    match value {
        serde_json::Value::String(text) => step(text),
        serde_json::Value::Number(number) => step(&number.to_string()),
        _ => None,
    }
}

/// The step of a number with so many decimals.
pub fn step_of_decimals(decimals: i64) -> Option<Decimal> {
    u8::try_from(decimals).ok().filter(|scale| *scale <= MAX_SCALE).map(|scale| Decimal::new(1, scale))
}

/// A venue time of `count` units; out of range is an error of the frame.
#[inline]
pub fn time(count: i64, unit: Nanos) -> Result<Nanos, VenueError> {
    nanos(count, unit).ok_or_else(|| VenueError::unexpected("time beyond the year 2262"))
}

/// Reads a whole number as a time.
#[inline]
pub fn time_at(cursor: &mut Cursor<'_>, unit: Nanos) -> Result<Nanos, VenueError> {
    time(cursor.int()?, unit)
}

/// Reads an RFC 3339 time; `None` for the year 1 and other texts by which venues mean no time.
#[inline]
pub fn rfc3339_at(cursor: &mut Cursor<'_>) -> Result<Option<Nanos>, VenueError> {
    Ok(cursor.str_or_null()?.and_then(rfc3339))
}

/// `2026-08-24T22:21:57Z`: a time as RFC 3339 text in whole seconds.
pub fn iso(time: Nanos) -> String {
    let ((year, month, day), of_day) = (date_of(time), time.rem_euclid(DAY) / SECOND);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Refuses a message that lacks one of `fields`; their places are the bits of `seen`.
#[inline]
pub fn require(seen: Seen, fields: &[&'static str]) -> Result<(), VenueError> {
    match seen.first_missing(fields.len()) {
        None => Ok(()),
        Some(bit) => Err(VenueError::missing(fields[bit])),
    }
}

/// The class of a refused subscription. One that we planned is wrong for good; in a recording it is the
/// recorder's affair, and the rest of the connection goes on.
pub fn refusal(planned: bool) -> Class {
    if planned { Class::Fatal } else { Class::Ignore }
}

/// A whole book that carries its number under `last` and, for some venues, its time in milliseconds under `time`:
/// `{"lastUpdateId":..,"T":..,"bids":[["p","q"]],"asks":[..]}`.
pub fn whole_book(
    c: &mut Cursor<'_>,
    id: InstrumentId,
    (last, time): (&'static str, Option<&str>),
    head: BookHead,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    out.begin(id);
    let mut seen = Seen::default();
    let (mut number, mut ts_event) = (0, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"bids" => {
                seen.once(1, c)?;
                out.pairs(Side::Bid, c)?;
            }
            b"asks" => {
                seen.once(2, c)?;
                out.pairs(Side::Ask, c)?;
            }
            key if key == last.as_bytes() => {
                seen.once(0, c)?;
                number = c.int()?;
            }
            key if time.is_some_and(|time| key == time.as_bytes()) => ts_event = Some(time_at(c, MILLI)?),
            _ => c.skip()?,
        }
    }
    require(seen, &[last, "bids", "asks"])?;
    out.book(BookHead { sequence: Some(Sequence::at(number)), ts_event, ..head });
    Ok(())
}

/// An error of a frame that carries no market data.
pub fn harmless(error: ScanError) -> VenueError {
    VenueError::new(Class::Ignore, VenueErrorKind::Scan(error))
}

/// Refuses an answer that is no success: the keeper asks again in time.
pub fn success(status: u16, body: &[u8]) -> Result<(), VenueError> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let shown = &body[..body.len().min(200)];
    Err(VenueError::venue(Class::Ignore, format!("HTTP {status}: {}", String::from_utf8_lossy(shown)).as_bytes()))
}

/// Writes a session's state.
pub fn save<T: Serialize>(state: &T, out: &mut Vec<u8>) {
    // Plain data into a growing vector: this cannot fail.
    if let Ok(bytes) = postcard::to_extend(state, Vec::new()) {
        out.extend_from_slice(&bytes);
    }
}

/// Reads a session's state, or makes a new one.
pub fn load<T: DeserializeOwned>(saved: Option<&[u8]>, new: impl FnOnce() -> T) -> Result<T, VenueError> {
    match saved {
        None => Ok(new()),
        Some(bytes) => postcard::from_bytes(bytes).map_err(|_| VenueError::new(Class::Fatal, VenueErrorKind::Saved)),
    }
}

/// The subscriptions to what the venue's list has; all of them while there is none.
pub fn listed(subscriptions: &[Subscription], instruments: &Instruments) -> Vec<Subscription> {
    let in_list = |native: &str| {
        let id = instruments.find(native.as_bytes());
        id.is_some_and(|id| instruments.get(id).listing.is_some())
    };
    let lists = instruments.iter().any(|(_, instrument)| instrument.listing.is_some());
    subscriptions.iter().filter(|wanted| !lists || in_list(&wanted.native)).cloned().collect()
}

/// Splits subscriptions into connections of at most `streams` each.
pub fn split(base: &str, subscriptions: &[Subscription], streams: u32) -> Vec<ConnectionPlan> {
    subscriptions
        .chunks(streams.max(1) as usize)
        .map(|chunk| ConnectionPlan { base: base.into(), subscriptions: chunk.to_vec() })
        .collect()
}

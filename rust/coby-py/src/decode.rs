//! `Decoder` and `Event`: recorded frames to events.

use std::sync::{Mutex, PoisonError};

use coby_core::decimal::Decimal;
use coby_core::sink::CandleItem;
use coby_io::decode::{self, Detail, TextLevel};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyDict;

use crate::errors::{Error, Result, contained};
use crate::frame::recorded;

/// One venue's sessions, keepers and books, fed with recorded frames.
#[pyclass(frozen, module = "coby._core")]
pub struct Decoder {
    venue: &'static str,
    inside: Mutex<Inside>,
}

struct Inside {
    /// Gone after an error that may have left it half-changed.
    decoder: Option<decode::Decoder>,
    /// Frames taken so far.
    frames: u64,
}

#[pymethods]
impl Decoder {
    #[new]
    #[pyo3(signature = (venue, *, sync=true))]
    fn new(venue: &str, sync: bool) -> Result<Self> {
        let found = coby_venues::registry::find(venue).ok_or_else(|| Error::Venue(venue.into()))?;
        let inside = Inside { decoder: Some(decode::Decoder::new(found, sync)), frames: 0 };
        Ok(Self { venue: found.spec().id, inside: Mutex::new(inside) })
    }

    fn feed(&self, py: Python<'_>, frames: Vec<Bound<'_, PyAny>>) -> Result<Vec<Event>> {
        let mut inside = self.inside.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let recorded: Result<Vec<_>> =
            (inside.frames..).zip(&frames).map(|(index, frame)| recorded(frame, index)).collect();
        let recorded = recorded?;
        drop(frames);
        let Inside { decoder, frames } = &mut *inside;
        let mut working = decoder.take().ok_or_else(|| Error::Internal("this decoder has failed before".into()))?;
        let (events, working) = py.detach(|| {
            contained(|| {
                let mut events = Vec::new();
                for frame in &recorded {
                    working.frame(frame, &mut events)?;
                }
                Ok((events, working))
            })
        })?;
        *frames += recorded.len() as u64;
        *decoder = Some(working);
        Ok(events.into_iter().map(|event| Event { venue: self.venue, event }).collect())
    }

    fn __repr__(&self) -> String {
        format!("<Decoder {}>", self.venue)
    }
}

/// One decoded event; attributes that its kind does not have are None.
#[pyclass(frozen, eq, module = "coby._core")]
#[derive(PartialEq)]
pub struct Event {
    venue: &'static str,
    event: decode::Event,
}

/// Attributes of every event, in the order of [`Event::to_dict`].
const COMMON: [&str; 7] = ["kind", "frame", "venue", "native_symbol", "symbol", "ts_event", "ts_recv"];

impl Event {
    /// The attributes that its kind adds.
    fn own(&self) -> &'static [&'static str] {
        match self.event.detail {
            Detail::Trade { .. } => &["price", "size", "side", "trade_id", "history"],
            Detail::Book { .. } => &["snapshot", "bids", "asks", "depth"],
            Detail::Gap { .. } => &["phase", "channel", "cause", "from_", "to", "evidence"],
            Detail::Checksum { .. } => &["ok"],
            Detail::Candle(_) => &[
                "interval",
                "open_time",
                "open",
                "high",
                "low",
                "close",
                "volume",
                "notional",
                "count",
                "taker_buy",
                "closed",
            ],
            Detail::Status { .. } => &["status", "message"],
        }
    }

    fn candle<T>(&self, field: impl FnOnce(&CandleItem) -> T) -> Option<T> {
        match &self.event.detail {
            Detail::Candle(candle) => Some(field(candle)),
            _ => None,
        }
    }

    fn number(&self, field: impl FnOnce(&CandleItem) -> Decimal) -> Option<String> {
        self.candle(|candle| field(candle).to_string())
    }
}

/// A field of one kind of event, None for the others.
macro_rules! field {
    ($event:ident, $kind:ident, $field:ident) => {
        match &$event.event.detail {
            Detail::$kind { $field, .. } => Some($field),
            _ => None,
        }
    };
}

#[pymethods]
impl Event {
    #[getter]
    fn kind(&self) -> &'static str {
        self.event.detail.kind()
    }
    #[getter]
    fn frame(&self) -> u64 {
        self.event.frame
    }
    #[getter]
    fn venue(&self) -> &'static str {
        self.venue
    }
    #[getter]
    fn native_symbol(&self) -> Option<&str> {
        self.event.native.as_deref()
    }
    #[getter]
    fn symbol(&self) -> Option<&str> {
        self.event.symbol.as_deref()
    }
    #[getter]
    fn ts_event(&self) -> Option<i64> {
        self.event.ts_event
    }
    #[getter]
    fn ts_recv(&self) -> i64 {
        self.event.ts_recv
    }

    #[getter]
    fn price(&self) -> Option<&String> {
        field!(self, Trade, price)
    }
    #[getter]
    fn size(&self) -> Option<&String> {
        field!(self, Trade, size)
    }
    #[getter]
    fn side(&self) -> Option<&str> {
        field!(self, Trade, side).copied()
    }
    #[getter]
    fn trade_id(&self) -> Option<&String> {
        field!(self, Trade, trade_id)
    }
    #[getter]
    fn history(&self) -> Option<bool> {
        field!(self, Trade, history).copied()
    }

    #[getter]
    fn snapshot(&self) -> Option<bool> {
        field!(self, Book, snapshot).copied()
    }
    #[getter]
    fn bids(&self) -> Option<&Vec<TextLevel>> {
        field!(self, Book, bids)
    }
    #[getter]
    fn asks(&self) -> Option<&Vec<TextLevel>> {
        field!(self, Book, asks)
    }
    #[getter]
    fn depth(&self) -> Option<u32> {
        field!(self, Book, depth).copied().flatten()
    }

    #[getter]
    fn phase(&self) -> Option<&str> {
        field!(self, Gap, phase).copied()
    }
    #[getter]
    fn channel(&self) -> Option<&str> {
        field!(self, Gap, channel).copied()
    }
    #[getter]
    fn cause(&self) -> Option<&str> {
        field!(self, Gap, cause).copied()
    }
    #[getter]
    fn from_(&self) -> Option<i64> {
        field!(self, Gap, from).copied()
    }
    #[getter]
    fn to(&self) -> Option<i64> {
        field!(self, Gap, to).copied().flatten()
    }
    #[getter]
    fn evidence(&self) -> Option<&String> {
        field!(self, Gap, evidence)
    }

    #[getter]
    fn ok(&self) -> Option<bool> {
        field!(self, Checksum, ok).copied()
    }

    #[getter]
    fn interval(&self) -> Option<i64> {
        self.candle(|candle| candle.interval)
    }
    #[getter]
    fn open_time(&self) -> Option<i64> {
        self.candle(|candle| candle.open_time)
    }
    #[getter]
    fn open(&self) -> Option<String> {
        self.number(|candle| candle.open)
    }
    #[getter]
    fn high(&self) -> Option<String> {
        self.number(|candle| candle.high)
    }
    #[getter]
    fn low(&self) -> Option<String> {
        self.number(|candle| candle.low)
    }
    #[getter]
    fn close(&self) -> Option<String> {
        self.number(|candle| candle.close)
    }
    #[getter]
    fn volume(&self) -> Option<String> {
        self.number(|candle| candle.volume)
    }
    #[getter]
    fn notional(&self) -> Option<String> {
        self.candle(|candle| candle.notional)?.map(|notional| notional.to_string())
    }
    #[getter]
    fn count(&self) -> Option<i64> {
        self.candle(|candle| candle.count)?
    }
    #[getter]
    fn taker_buy(&self) -> Option<String> {
        self.candle(|candle| candle.taker_buy)?.map(|taker_buy| taker_buy.to_string())
    }
    #[getter]
    fn closed(&self) -> Option<bool> {
        self.candle(|candle| candle.closed)
    }

    #[getter]
    fn status(&self) -> Option<&str> {
        field!(self, Status, status).copied()
    }
    #[getter]
    fn message(&self) -> Option<&String> {
        field!(self, Status, message)
    }

    fn to_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(slf.py());
        for name in COMMON.iter().chain(slf.get().own()) {
            // `from` is a keyword in Python, but not in JSON.
            dict.set_item(name.trim_end_matches('_'), slf.getattr(*name)?)?;
        }
        Ok(dict)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let fields = Self::to_dict(slf)?.repr()?;
        Ok(format!("Event({fields})"))
    }
}

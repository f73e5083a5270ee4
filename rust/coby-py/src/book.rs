//! `OrderBook`: one exact book, also usable alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use coby_core::book::Book;
use coby_core::decimal::{Decimal, DecimalError, MAX_SCALE, wide_to_f64};
use coby_core::level::{Digits, Level, Side};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyString, PyTuple};

use crate::errors::{Error, Result};

/// A price and a size as exact decimal text.
type TextLevel = (String, String);

/// A price-aggregated book (L2), exact: prices and sizes are integers with a scale of 0 to 18 fraction digits.
#[pyclass(frozen, module = "coby._core")]
pub struct OrderBook {
    book: Mutex<Book>,
}

/// One change as it was given: a positive price and an absolute size.
struct Change {
    side: Side,
    price: Decimal,
    size: Decimal,
}

#[pymethods]
impl OrderBook {
    #[new]
    #[pyo3(signature = (price_scale=0, size_scale=0))]
    fn new(price_scale: i64, size_scale: i64) -> Result<Self> {
        let scale = |argument, scale: i64| match u8::try_from(scale) {
            Ok(scale) if scale <= MAX_SCALE => Ok(scale),
            _ => Err(Error::Argument { argument, message: format!("{scale} is not in 0..={MAX_SCALE}") }),
        };
        let (price_scale, size_scale) = (scale("price_scale", price_scale)?, scale("size_scale", size_scale)?);
        Ok(Self { book: Mutex::new(Book::new(price_scale, size_scale, false)) })
    }

    #[pyo3(signature = (bids=None, asks=None, *, snapshot=false, depth=None))]
    fn apply(
        &self,
        py: Python<'_>,
        bids: Option<&Bound<'_, PyAny>>,
        asks: Option<&Bound<'_, PyAny>>,
        snapshot: bool,
        depth: Option<i64>,
    ) -> Result<()> {
        let depth = depth.map(|depth| count("depth", depth, 1)).transpose()?;
        // Reading the arguments may run Python code: the book is locked only afterwards.
        let mut changes = Vec::new();
        read(bids, Side::Bid, &mut changes)?;
        read(asks, Side::Ask, &mut changes)?;
        let mut book = self.lock(py);
        if snapshot {
            let mut fresh = Book::new(book.price_scale(), book.size_scale(), false);
            change(&mut fresh, &changes)?;
            *book = fresh;
        } else {
            change(&mut book, &changes)?;
        }
        if let Some(depth) = depth {
            for side in [Side::Bid, Side::Ask] {
                book.truncate(side, depth, drop);
            }
        }
        Ok(())
    }

    #[pyo3(signature = (levels=None))]
    fn bids(&self, py: Python<'_>, levels: Option<i64>) -> Result<Vec<TextLevel>> {
        self.levels(py, Side::Bid, levels)
    }

    #[pyo3(signature = (levels=None))]
    fn asks(&self, py: Python<'_>, levels: Option<i64>) -> Result<Vec<TextLevel>> {
        self.levels(py, Side::Ask, levels)
    }

    #[getter]
    fn best_bid(&self, py: Python<'_>) -> Option<TextLevel> {
        let book = self.lock(py);
        book.best(Side::Bid).map(|level| text(&book, level))
    }

    #[getter]
    fn best_ask(&self, py: Python<'_>) -> Option<TextLevel> {
        let book = self.lock(py);
        book.best(Side::Ask).map(|level| text(&book, level))
    }

    #[getter]
    fn mid_price(&self, py: Python<'_>) -> Option<f64> {
        let book = self.lock(py);
        let (bid, ask) = (book.best(Side::Bid)?.price, book.best(Side::Ask)?.price);
        // Half of a mantissa is five of the next scale.
        Some(wide_to_f64((i128::from(bid) + i128::from(ask)) * 5, book.price_scale() + 1).0)
    }

    #[getter]
    fn spread(&self, py: Python<'_>) -> Option<f64> {
        let book = self.lock(py);
        let (bid, ask) = (book.best(Side::Bid)?.price, book.best(Side::Ask)?.price);
        Some(wide_to_f64(i128::from(ask) - i128::from(bid), book.price_scale()).0)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let book = self.lock(py);
        format!("<OrderBook: {} bids, {} asks>", book.len(Side::Bid), book.len(Side::Ask))
    }
}

impl OrderBook {
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Book> {
        // A book is changed only by calls that leave it whole at every step.
        self.book.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    fn levels(&self, py: Python<'_>, side: Side, levels: Option<i64>) -> Result<Vec<TextLevel>> {
        let levels = levels.map_or(Ok(usize::MAX), |levels| count("levels", levels, 0))?;
        let book = self.lock(py);
        Ok(book.levels(side).take(levels).map(|level| text(&book, level)).collect())
    }
}

fn count(argument: &'static str, value: i64, least: i64) -> Result<usize> {
    let fitting = usize::try_from(value).ok().filter(|_| value >= least);
    fitting.ok_or_else(|| Error::Argument { argument, message: format!("{value} is below {least}") })
}

fn text(book: &Book, level: Level) -> TextLevel {
    let price = Decimal::new(level.price, book.price_scale()).to_string();
    (price, Decimal::new(level.size, book.size_scale()).to_string())
}

fn read(levels: Option<&Bound<'_, PyAny>>, side: Side, changes: &mut Vec<Change>) -> Result<()> {
    let Some(levels) = levels else { return Ok(()) };
    for pair in levels.try_iter()? {
        let (price, size) = texts(&pair?)?;
        let (price, size) = (number("price", &price)?, number("size", &size)?);
        changes.push(Change { side, price, size });
    }
    Ok(())
}

fn texts<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let (price, size) = match pair.cast::<PyTuple>() {
        Ok(pair) => pair.extract()?,
        // What a JSON text gives.
        Err(_) => {
            <(Bound<'py, PyAny>, Bound<'py, PyAny>)>::from(<[Bound<'py, PyAny>; 2]>::extract(pair.as_borrowed())?)
        }
    };
    let string = |part: Bound<'py, PyAny>, name| {
        let wrong = |_| PyTypeError::new_err(format!("a level is a pair of strings, but its {name} is none"));
        part.cast_into::<PyString>().map_err(wrong)
    };
    Ok((string(price, "price")?, string(size, "size")?))
}

/// The decimal of a text, without the trailing zeros of its fraction.
fn number(field: &'static str, text: &Bound<'_, PyString>) -> Result<Decimal> {
    let text = text.to_cow()?;
    let wrong = |message: String| Error::Number { field, text: text.chars().take(100).collect(), message };
    let decimal = Decimal::parse(text.as_bytes()).map_err(|error| wrong(error.to_string()))?.normal();
    match field {
        "price" if decimal.mantissa <= 0 => Err(wrong("a price is positive".into())),
        _ if decimal.mantissa < 0 => Err(wrong("a size is never negative".into())),
        _ => Ok(decimal),
    }
}

/// Applies all changes, or none.
fn change(book: &mut Book, changes: &[Change]) -> Result<()> {
    let (mut price_scale, mut size_scale) = (book.price_scale(), book.size_scale());
    for change in changes.iter().filter(|change| change.size.mantissa != 0) {
        price_scale = price_scale.max(change.price.scale);
        size_scale = size_scale.max(change.size.scale);
    }
    let mut levels = Vec::with_capacity(changes.len());
    for change in changes {
        let (price, size) = (change.price.at_scale(price_scale), change.size.at_scale(size_scale));
        match (price, size) {
            (Ok(price), Ok(size)) => levels.push((change.side, Level { price, size, digits: Digits::default() })),
            // A price that this scale cannot express is not in the book, so there is nothing to remove.
            (Err(_), Ok(0)) => {}
            (Err(error), _) => return Err(unfit("price", change.price, error)),
            (_, Err(error)) => return Err(unfit("size", change.size, error)),
        }
    }
    book.rescale(price_scale, size_scale).map_err(|error| {
        let text = format!("{price_scale}, {size_scale}");
        Error::Number { field: "scales", text, message: error.to_string() }
    })?;
    for (side, level) in levels {
        book.set(side, level);
    }
    Ok(())
}

fn unfit(field: &'static str, decimal: Decimal, error: DecimalError) -> Error {
    Error::Fit { field, text: decimal.to_string(), error }
}

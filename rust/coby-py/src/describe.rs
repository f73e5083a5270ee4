//! What this module is, which rows it derives and which venues it speaks to.

use coby_core::rows::{ColumnType, Cut};
use coby_core::venue::{BookFeed, Join, Ping, Rule, VenueSpec};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// What this module was built from.
#[pyfunction]
pub fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", env!("COBY_PROFILE"))?;
    info.set_item("target", env!("COBY_TARGET"))?;
    // Version and hash: strip the version, which has a place of its own.
    info.set_item("code", coby_io::engine::CODE.rsplit('+').next())?;
    Ok(info)
}

/// For each row kind its columns in order: name, type, unit, nullable, doc.
#[pyfunction]
pub fn schema(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let kinds = PyDict::new(py);
    for table in Cut::default().tables() {
        let columns = PyList::empty(py);
        for spec in table.specs() {
            let column = PyDict::new(py);
            column.set_item("name", spec.name)?;
            column.set_item("type", type_name(spec.kind))?;
            column.set_item("unit", spec.unit)?;
            column.set_item("nullable", spec.nullable)?;
            column.set_item("doc", spec.doc)?;
            columns.append(column)?;
        }
        kinds.set_item(table.name(), columns)?;
    }
    Ok(kinds)
}

/// Arrow's name of the type, without the dictionary encoding of text in batches.
fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::U64 => "uint64",
        ColumnType::U32 => "uint32",
        ColumnType::I64 => "int64",
        ColumnType::F64 => "float64",
        ColumnType::Bool => "bool",
        ColumnType::Word | ColumnType::Text => "string",
        ColumnType::ListI64 => "list<int64>",
        ColumnType::ListU32 => "list<uint32>",
        ColumnType::ListF64 => "list<float64>",
    }
}

/// The venues' specs.
#[pyfunction]
pub fn venues(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    coby_venues::registry::VENUES.iter().map(|venue| describe(py, venue.spec())).collect()
}

fn describe<'py>(py: Python<'py>, spec: &VenueSpec) -> PyResult<Bound<'py, PyDict>> {
    let venue = PyDict::new(py);
    venue.set_item("id", spec.id)?;
    venue.set_item("name", spec.name)?;
    venue.set_item("protocol", spec.protocol)?;
    venue.set_item("closed", spec.closed)?;
    venue.set_item("sockets", spec.sockets)?;
    venue.set_item("rest", spec.rest)?;
    let ping = match spec.ping {
        Ping::Protocol => "protocol",
        Ping::Text(text) => text,
        Ping::Server => "server",
    };
    venue.set_item("ping", ping)?;
    venue.set_item("silence", spec.silence)?;
    let limits = PyDict::new(py);
    limits.set_item("dials", spec.limits.dials)?;
    limits.set_item("messages", spec.limits.messages)?;
    limits.set_item("spacing", spec.limits.spacing)?;
    limits.set_item("streams", spec.limits.streams)?;
    limits.set_item("rest", spec.limits.rest)?;
    limits.set_item("lifetime", spec.limits.lifetime)?;
    venue.set_item("limits", limits)?;
    venue.set_item("books", spec.books.iter().map(|feed| book(py, feed)).collect::<PyResult<Vec<_>>>()?)?;
    let trades = PyList::empty(py);
    for feed in spec.trades {
        let trade = PyDict::new(py);
        trade.set_item("name", feed.name)?;
        trade.set_item("proof", feed.proof.name())?;
        trade.set_item("aggregated", feed.aggregated)?;
        trades.append(trade)?;
    }
    venue.set_item("trades", trades)?;
    let candles = PyList::empty(py);
    for feed in spec.candles {
        let candle = PyDict::new(py);
        candle.set_item("name", feed.name)?;
        candle.set_item("interval", feed.interval)?;
        candles.append(candle)?;
    }
    venue.set_item("candles", candles)?;
    Ok(venue)
}

fn book<'py>(py: Python<'py>, feed: &BookFeed) -> PyResult<Bound<'py, PyDict>> {
    let book = PyDict::new(py);
    book.set_item("name", feed.name)?;
    let join = match feed.join {
        Join::Socket => "socket",
        Join::Request { .. } => "request",
        Join::Image => "image",
    };
    book.set_item("join", join)?;
    let rule = match feed.rule {
        Rule::None => "none",
        Rule::Monotone => "monotone",
        Rule::Contiguous => "contiguous",
        Rule::Overlapping => "overlapping",
        Rule::Chain => "chain",
        Rule::Increment => "increment",
        Rule::Connection => "connection",
    };
    book.set_item("rule", rule)?;
    book.set_item("proof", feed.proof.name())?;
    book.set_item("checksum_levels", feed.checksum.map(|checksum| checksum.levels))?;
    book.set_item("depth", feed.depth)?;
    book.set_item("refresh", feed.refresh)?;
    book.set_item("limits", feed.limits)?;
    Ok(book)
}

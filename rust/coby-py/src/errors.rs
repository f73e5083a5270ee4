//! Errors of the core as exceptions of `coby.utils.exceptions`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use coby_core::decimal::DecimalError;
use coby_core::feed::FeedError;
use coby_core::pipeline::PipelineError;
use coby_core::settings::SettingsError;
use coby_core::symbol::SymbolError;
use coby_io::checkpoint::CheckpointError;
use coby_io::engine::EngineError;
use coby_io::engine::view::ViewError;
use coby_io::recording::RecordingError;
use coby_io::tape::TapeError;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::{Value, json};
use thiserror::Error;

use crate::convert::to_python;

/// An error on its way to Python.
#[derive(Debug, Error)]
pub enum Error {
    /// An argument that cannot be used.
    #[error("{argument}: {message}")]
    Argument {
        /// Its name.
        argument: &'static str,
        /// What was given and what is allowed.
        message: String,
    },
    /// No venue has this id.
    #[error("no venue has the id {0:?}")]
    Venue(String),
    /// A text that is no decimal which may stand there.
    #[error("{field} {text:?}: {message}")]
    Number {
        /// What it was to be.
        field: &'static str,
        /// The text.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// A number that does not fit the book.
    #[error("{field} {text}: {error} (a book has one scale for all its prices, and one for all its sizes)")]
    Fit {
        /// What it is.
        field: &'static str,
        /// The number.
        text: String,
        /// Why it does not fit.
        error: DecimalError,
    },
    /// A recorded frame that is none.
    #[error("frame {frame}: {field}: {message}")]
    Frame {
        /// Its index, from 0.
        frame: u64,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Settings of the pipeline.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The pipeline or its feed.
    #[error(transparent)]
    Feed(FeedError),
    /// There is no tape.
    #[error("{0} holds no tape")]
    NoTape(String),
    /// A tape.
    #[error(transparent)]
    Tape(#[from] TapeError),
    /// A tape that goes with something else, or whose records or checkpoints cannot be used.
    #[error("{message}")]
    TapeUse {
        /// Which of these.
        code: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A question about a book.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The engine.
    #[error("{0}")]
    Engine(String),
    /// What should never happen: a panic, or an object used after one.
    #[error("internal error: {0}")]
    Internal(String),
    /// Python raised it.
    #[error("{0}")]
    Python(PyErr),
}

/// What the wrappers return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Class in `coby.utils.exceptions`, code, and facts for logs.
    fn report(&self) -> (&'static str, &'static str, Value) {
        match self {
            Self::Argument { argument, .. } => ("ConfigError", "config", json!({ "argument": argument })),
            Self::Venue(id) => ("UnknownVenueError", "venue.unknown", json!({ "venue": id })),
            Self::Number { field, text, .. } => ("NumberError", "number", json!({ "field": field, "text": text })),
            Self::Fit { field, text, .. } => ("NumberError", "number.range", json!({ "field": field, "text": text })),
            Self::Frame { frame, field, .. } => {
                ("RecordingError", "recording.frame", json!({ "frame": frame, "field": field }))
            }
            Self::Recording(RecordingError::Io { path, .. }) => {
                ("RecordingError", "recording.io", json!({ "file": path }))
            }
            Self::Recording(RecordingError::Line { path, line, .. }) => {
                ("RecordingError", "recording.line", json!({ "file": path, "line": line }))
            }
            Self::Settings(SettingsError { setting, value, .. }) => {
                ("ConfigError", "config", json!({ "setting": setting, "value": value }))
            }
            Self::Feed(_) => ("EngineError", "engine.state", json!({})),
            Self::NoTape(path) => ("TapeError", "tape.missing", json!({ "path": path })),
            Self::Tape(error) => tape(error),
            Self::TapeUse { code, .. } => ("TapeError", code, json!({})),
            Self::View(ViewError::Symbol(SymbolError::Unknown { text, nearest })) => {
                ("UnknownSymbolError", "symbol.unknown", json!({ "symbol": text, "nearest": nearest }))
            }
            Self::View(ViewError::Symbol(SymbolError::Ambiguous { text, candidates })) => {
                ("AmbiguousSymbolError", "symbol.ambiguous", json!({ "symbol": text, "candidates": candidates }))
            }
            Self::View(ViewError::BucketSize { text, .. }) => {
                ("ConfigError", "config", json!({ "argument": "bucket_size", "value": text }))
            }
            Self::Engine(_) => ("EngineError", "engine", json!({})),
            Self::Internal(_) | Self::Python(_) => ("EngineError", "engine.internal", json!({})),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<PyErr> {
        let (class, code, context) = self.report();
        let class = py.import("coby.utils.exceptions")?.getattr(class)?;
        let exception = class.call1((self.to_string(), code, to_python(py, &context)?))?;
        Ok(PyErr::from_value(exception))
    }

    /// The nearest built-in, where the module stands without its package.
    fn plain(&self) -> PyErr {
        match self.report().0 {
            "ConfigError"
            | "UnknownVenueError"
            | "UnknownSymbolError"
            | "AmbiguousSymbolError"
            | "NumberError"
            | "RecordingError" => PyValueError::new_err(self.to_string()),
            _ => PyRuntimeError::new_err(self.to_string()),
        }
    }
}

fn tape(error: &TapeError) -> (&'static str, &'static str, Value) {
    let (code, path) = match error {
        TapeError::Io { path, .. } => ("tape.io", Some(path)),
        TapeError::Newer { path, .. } | TapeError::UnknownCodec { path, .. } => ("tape.newer", Some(path)),
        TapeError::Foreign { path } => ("tape.foreign", Some(path)),
        TapeError::Locked { path, .. } => ("tape.locked", Some(path)),
        TapeError::Order { .. } => ("tape.order", None),
        TapeError::TooLong { .. } => ("tape.record", None),
        TapeError::Codec { .. } => ("tape.codec", None),
        TapeError::Failed { .. } => ("tape.failed", None),
    };
    ("TapeError", code, path.map_or_else(|| json!({}), |path| json!({ "path": path.display().to_string() })))
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Python(error) => error,
            error => Python::attach(|py| error.exception(py).unwrap_or_else(|_| error.plain())),
        }
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<FeedError> for Error {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Venue(id) => Self::Venue(id),
            error @ FeedError::Saved(_) => Self::Feed(error),
        }
    }
}

impl From<PipelineError> for Error {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Feed(error) => error.into(),
            PipelineError::Settings(error) => error.into(),
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Tape(error) => error.into(),
            EngineError::Recording(error) => error.into(),
            EngineError::Pipeline(error) | EngineError::Checkpoint(CheckpointError::State(error)) => error.into(),
            EngineError::Settings(error) => error.into(),
            EngineError::Record { .. } => Self::TapeUse { code: "tape.record", message },
            EngineError::Checkpoint(CheckpointError::Io { .. }) => Self::TapeUse { code: "tape.checkpoint", message },
            EngineError::Other { .. } => Self::TapeUse { code: "tape.other", message },
            EngineError::Venue(id) => Self::Venue(id),
            EngineError::Panic(panic) => Self::Internal(panic),
            EngineError::Exchange(_) => Self::Argument { argument: "exchange", message },
            EngineError::NotLive | EngineError::Thread(_) => Self::Engine(message),
        }
    }
}

/// Runs `work`; a panic in it becomes an error. The caller lets go of what the panic may have left half-done.
pub fn contained<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    Error::Internal(text.unwrap_or("a panic without a message").into())
}

/// Panics, so that tests can show what becomes of a panic.
#[pyfunction]
pub fn _panic(message: String) -> Result<()> {
    contained(|| std::panic::panic_any(message))
}

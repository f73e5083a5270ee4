//! Errors of the core as exceptions of `coby.utils.exceptions`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use coby_core::feed::FeedError;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An error on its way to Python.
#[derive(Debug)]
pub enum Error {
    /// An argument that cannot be used.
    Config {
        /// Its name.
        argument: &'static str,
        /// What was given and what is allowed.
        message: String,
    },
    /// No venue has this id.
    UnknownVenue(String),
    /// A text that is no exact decimal, or not one that may stand there.
    Number {
        /// What it was to be.
        field: &'static str,
        /// The text.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// A recorded frame that is none.
    Frame {
        /// Its index, from 0.
        frame: u64,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A saved state or a tape that this code cannot use.
    Feed(FeedError),
    /// What should never happen: a panic, or an object used after one.
    Internal(String),
    /// Python raised it.
    Python(PyErr),
}

/// What the wrappers return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The name of the exception class, and the code where it is not the class's own.
    fn class(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Config { .. } => ("ConfigError", None),
            Self::UnknownVenue(_) => ("UnknownVenueError", None),
            Self::Number { .. } => ("NumberError", None),
            Self::Frame { .. } => ("RecordingError", Some("recording.frame")),
            Self::Feed(_) => ("EngineError", Some("engine.feed")),
            Self::Internal(_) | Self::Python(_) => ("EngineError", Some("engine.internal")),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Config { argument, message } => format!("{argument}: {message}"),
            Self::UnknownVenue(id) => format!("no venue has the id {id:?}"),
            Self::Number { field, text, message } => format!("{field} {text:?}: {message}"),
            Self::Frame { frame, field, message } => format!("frame {frame}: {field}: {message}"),
            Self::Feed(error) => error.to_string(),
            Self::Internal(message) => message.clone(),
            Self::Python(error) => error.to_string(),
        }
    }

    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let context = PyDict::new(py);
        match self {
            Self::Config { argument, .. } => context.set_item("argument", argument)?,
            Self::UnknownVenue(id) => context.set_item("venue", id)?,
            Self::Number { field, text, .. } => {
                context.set_item("field", field)?;
                context.set_item("text", text)?;
            }
            Self::Frame { frame, field, .. } => {
                context.set_item("frame", frame)?;
                context.set_item("field", field)?;
            }
            Self::Feed(_) | Self::Internal(_) | Self::Python(_) => {}
        }
        Ok(context)
    }

    fn exception(&self, py: Python<'_>) -> PyResult<PyErr> {
        let (class, code) = self.class();
        let class = py.import("coby.utils.exceptions")?.getattr(class)?;
        let exception = class.call1((self.message(), code, self.context(py)?))?;
        Ok(PyErr::from_value(exception))
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        if let Error::Python(error) = error {
            return error;
        }
        // The module may stand alone: then the nearest built-in says it.
        let plain = |_| match &error {
            Error::Feed(_) | Error::Internal(_) | Error::Python(_) => PyRuntimeError::new_err(error.message()),
            _ => PyValueError::new_err(error.message()),
        };
        Python::attach(|py| error.exception(py).unwrap_or_else(plain))
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
            FeedError::Venue(id) => Self::UnknownVenue(id),
            error @ FeedError::Saved(_) => Self::Feed(error),
        }
    }
}

/// Runs `work`; a panic in it becomes an error.
pub fn contained<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Whoever calls this lets go of what a panic may have left half-done.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    Error::Internal(format!("internal error: {}", text.unwrap_or("panic without a message")))
}

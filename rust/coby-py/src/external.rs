//! `ExternalFeed`: a connection whose frames Python pushes.

use coby_io::net::{External, LARGEST, Push};
use pyo3::prelude::*;

use crate::errors::{Error, Result};

/// A connection of the venue `external`.
#[pyclass(frozen, module = "coby._core")]
pub struct ExternalFeed {
    external: External,
}

impl ExternalFeed {
    pub fn new(external: External) -> Self {
        Self { external }
    }
}

#[pymethods]
impl ExternalFeed {
    fn push(&self, text: &str) -> Result<bool> {
        taken(self.external.push(text))
    }

    fn instruments(&self, text: &str) -> Result<bool> {
        taken(self.external.instruments(text))
    }

    #[getter]
    fn ended(&self) -> bool {
        self.external.ended()
    }

    fn close(&self) {
        self.external.close();
    }
}

fn taken(push: Push) -> Result<bool> {
    match push {
        Push::Taken => Ok(true),
        Push::Full | Push::Ended => Ok(false),
        Push::TooLong => {
            Err(Error::Argument { argument: "text", message: format!("it must be at most {LARGEST} bytes long") })
        }
    }
}

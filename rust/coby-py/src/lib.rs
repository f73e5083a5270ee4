//! The Python module `coby._core`: thin wrappers over the Rust core.
//!
//! Prices and sizes cross the boundary exactly, as decimal strings, or as Arrow columns. Whatever takes long
//! runs without the GIL; a panic becomes an exception.

mod arrow;
mod book;
mod convert;
mod decode;
mod describe;
mod engine;
mod errors;
mod external;
mod ffi;
mod frame;
mod labels;
mod notifier;
mod tape;
mod wake;

use pyo3::prelude::*;

/// Nothing here relies on the GIL: every class is immutable or guards its state with a lock.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::arrow::{Cut, RecordBatch};
    #[pymodule_export]
    use crate::book::OrderBook;
    #[pymodule_export]
    use crate::decode::{Decoder, Event};
    #[pymodule_export]
    use crate::describe::{build_info, schema, venues};
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::external::ExternalFeed;
    #[pymodule_export]
    use crate::tape::{tape_info, tape_repair, tape_verify};

    /// Not part of the module's names: hooks of its tests and benches.
    #[pymodule_init]
    fn hook(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.setattr("_Notifier", module.py().get_type::<crate::notifier::Notifier>())?;
        module.setattr("_panic", wrap_pyfunction!(crate::errors::_panic, module)?)
    }
}

//! The Python module `coby._core`.

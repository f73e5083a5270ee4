//! Looking at tapes and repairing them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coby_io::disk::{Disk, RealDisk};
use coby_io::tape;
use pyo3::prelude::*;
use serde::Serialize;

use crate::convert::report;
use crate::errors::{Error, Result, contained};

/// The file system.
pub fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Refuses a directory without a tape.
pub fn require(disk: &Arc<dyn Disk>, directory: &Path) -> Result<tape::TapeInfo> {
    let missing = || Error::NoTape(directory.display().to_string());
    if !directory.is_dir() {
        return Err(missing());
    }
    let info = tape::info(disk, directory)?;
    if info.segments.is_empty() { Err(missing()) } else { Ok(info) }
}

/// What is on a tape.
#[pyfunction]
pub fn tape_info(py: Python<'_>, directory: PathBuf) -> Result<Bound<'_, PyAny>> {
    let info = py.detach(move || contained(|| require(&disk(), &directory)))?;
    report(py, &info)
}

/// Reads and checks a whole tape.
#[pyfunction]
pub fn tape_verify(py: Python<'_>, directory: PathBuf) -> Result<Bound<'_, PyAny>> {
    let found = py.detach(move || {
        contained(|| {
            let disk = disk();
            require(&disk, &directory)?;
            Ok(tape::verify(&disk, &directory)?)
        })
    })?;
    report(py, &found)
}

/// What recovery and repair did, together.
#[derive(Serialize)]
struct Repair {
    #[serde(flatten)]
    recovery: tape::Recovery,
    #[serde(flatten)]
    repair: tape::RepairReport,
}

/// Cuts a torn tail, then rewrites damaged segments.
#[pyfunction]
pub fn tape_repair(py: Python<'_>, directory: PathBuf) -> Result<Bound<'_, PyAny>> {
    let done = py.detach(move || {
        contained(|| {
            let disk = disk();
            require(&disk, &directory)?;
            let _held = tape::lock(&*disk, &directory)?;
            let recovery = tape::recover(&disk, &directory)?;
            Ok(Repair { recovery, repair: tape::repair(&disk, &directory)? })
        })
    })?;
    report(py, &done)
}

//! `Engine`: an import or a replay on a thread of its own.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coby_core::settings::PipelineSettings;
use coby_io::engine::view::Moment;
use coby_io::engine::{self, EngineError, ImportConfig, LiveConfig, ReplayConfig};
use coby_io::net::{Clock, Endpoints, RealNetwork};
use coby_io::recording::Recording;
use coby_io::tape::{TapeOptions, TapeReader, Wake, lock};
use coby_venues::registry::find;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyDict;

use crate::arrow::Cut;
use crate::convert::report;
use crate::errors::{Error, Result, contained};
use crate::external::ExternalFeed;
use crate::labels::Dictionaries;
use crate::tape::{disk, require};
use crate::wake::WakeUp;

/// An engine on a thread of its own. It never takes the GIL; `fileno()` becomes readable when cuts wait.
#[pyclass(frozen, module = "coby._core")]
pub struct Engine {
    wake: Arc<WakeUp>,
    running: Mutex<Running>,
}

struct Running {
    engine: engine::Engine,
    dictionaries: Option<Arc<Dictionaries>>,
}

#[pymethods]
impl Engine {
    #[staticmethod]
    #[pyo3(signature = (venue, files, tape, settings, *, check=true))]
    fn importing(
        py: Python<'_>,
        venue: String,
        files: Vec<PathBuf>,
        tape: PathBuf,
        settings: &Bound<'_, PyAny>,
        check: bool,
    ) -> Result<Self> {
        let settings = parsed(settings)?;
        let config = ImportConfig { venue, files, tape, settings, options: TapeOptions::default(), check };
        Self::start(py, |wake| {
            // The thread finds these errors too, but here they can still be raised.
            find(&config.venue).ok_or_else(|| Error::Venue(config.venue.clone()))?;
            for file in &config.files {
                Recording::open(file)?;
            }
            let disk = disk();
            drop(lock(&*disk, &config.tape)?);
            TapeReader::open(Arc::clone(&disk), &config.tape)?;
            Ok(engine::Engine::importing(find, disk, config, wake)?)
        })
    }

    #[staticmethod]
    #[pyo3(signature = (tape, settings, *, venues, symbols, simulator=None, proxies=None, root_certificates=None, places=10_000, check=true))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn live(
        py: Python<'_>,
        tape: PathBuf,
        settings: &Bound<'_, PyAny>,
        venues: Vec<String>,
        symbols: Vec<String>,
        simulator: Option<&str>,
        proxies: Option<BTreeMap<String, String>>,
        root_certificates: Option<&str>,
        places: usize,
        check: bool,
    ) -> Result<Self> {
        let unusable = |argument, message: String| Error::Argument { argument, message };
        let network = RealNetwork::new(&proxies.unwrap_or_default(), root_certificates.map(Path::new))
            .map_err(|error| unusable("proxies and root_certificates", error.to_string()))?;
        if places == 0 {
            return Err(unusable("places", "0: it must be at least 1".into()));
        }
        let config = LiveConfig {
            venues,
            symbols,
            tape,
            settings: parsed(settings)?,
            options: TapeOptions::default(),
            check,
            places,
            endpoints: simulator.map_or_else(Endpoints::real, Endpoints::simulated),
            network: Arc::new(network),
            clock: Clock::start(),
        };
        Self::start(py, |wake| {
            for venue in &config.venues {
                find(venue).ok_or_else(|| Error::Venue(venue.clone()))?;
            }
            let disk = disk();
            drop(lock(&*disk, &config.tape)?);
            TapeReader::open(Arc::clone(&disk), &config.tape)?;
            Ok(engine::Engine::live(find, disk, config, wake)?)
        })
    }

    #[staticmethod]
    #[pyo3(signature = (tape, *, after=0, until=None, settings=None, hash=true))]
    fn replaying(
        py: Python<'_>,
        tape: PathBuf,
        after: u64,
        until: Option<u64>,
        settings: Option<&Bound<'_, PyAny>>,
        hash: bool,
    ) -> Result<Self> {
        let settings = settings.map(parsed).transpose()?;
        let config = ReplayConfig { tape, after, until, settings, hash };
        Self::start(py, |wake| {
            let disk = disk();
            require(&disk, &config.tape)?;
            Ok(engine::Engine::replaying(find, disk, config, wake)?)
        })
    }

    fn fileno(&self) -> RawFd {
        self.wake.descriptor()
    }

    fn drain(&self, py: Python<'_>) -> Vec<Cut> {
        // Before taking the cuts: one that comes in between wakes again.
        self.wake.clear();
        let running = &mut *self.running(py);
        let Running { engine, dictionaries } = running;
        let cuts = py.detach(|| engine.drain());
        cuts.into_iter().map(|cut| Cut::new(cut, dictionaries)).collect()
    }

    #[getter]
    fn durable_pos(&self, py: Python<'_>) -> u64 {
        self.running(py).engine.durable_pos()
    }

    #[getter]
    fn finished(&self, py: Python<'_>) -> bool {
        self.running(py).engine.finished()
    }

    fn status<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        let status = self.running(py).engine.status();
        report(py, &status)
    }

    #[pyo3(signature = (venue, name, levels=50))]
    fn book<'py>(
        &self,
        py: Python<'py>,
        venue: String,
        name: String,
        levels: usize,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let view = self.ask(py, move |moment| moment.book(&venue, &name, levels))?;
        view?.map(|view| report(py, &view)).transpose()
    }

    #[pyo3(signature = (venue, name, bucket_size=None, rows=50))]
    fn buckets<'py>(
        &self,
        py: Python<'py>,
        venue: String,
        name: String,
        bucket_size: Option<String>,
        rows: usize,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let view = self.ask(py, move |moment| moment.buckets(&venue, &name, bucket_size.as_deref(), rows))?;
        view?.map(|view| report(py, &view)).transpose()
    }

    #[pyo3(signature = (venue=None))]
    fn instruments<'py>(&self, py: Python<'py>, venue: Option<String>) -> Result<Bound<'py, PyAny>> {
        let views = self.ask(py, move |moment| moment.instruments(venue.as_deref()))?;
        report(py, &views)
    }

    fn external(&self, py: Python<'_>, exchange: &str) -> Result<ExternalFeed> {
        let asking = self.running(py).engine.asking();
        Ok(ExternalFeed::new(py.detach(|| asking.external(exchange))?))
    }

    fn stop(&self, py: Python<'_>) {
        // Without the lock: whoever drains it meanwhile, or looks at it, does not wait for its end.
        let asking = self.running(py).engine.asking();
        py.detach(|| asking.stop());
    }
}

impl Engine {
    fn start(py: Python<'_>, engine: impl FnOnce(Wake) -> Result<engine::Engine> + Send) -> Result<Self> {
        let wake = Arc::new(WakeUp::new().map_err(EngineError::Thread)?);
        let notify = Arc::clone(&wake);
        let engine = py.detach(|| contained(|| engine(Arc::new(move || notify.notify()))))?;
        Ok(Self { wake, running: Mutex::new(Running { engine, dictionaries: None }) })
    }

    /// Has the engine answer between two records, while other Python threads run.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(&Moment<'_>) -> T + Send + 'static,
    ) -> Result<T> {
        let asked = self.running(py).engine.asking();
        let answer = py.detach(|| asked.ask(question));
        answer.ok_or_else(|| Error::Engine("the engine has ended, or does not answer within a second".into()))
    }

    fn running(&self, py: Python<'_>) -> MutexGuard<'_, Running> {
        // What is behind the lock stays whole whatever happens to its holder.
        self.running.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Ending may take a while: other Python threads run on meanwhile, where there still is a Python.
        let _ = Python::try_attach(|py| py.detach(|| running.engine.stop()));
    }
}

/// Settings as a mapping; numbers and texts as in JSON.
fn parsed(settings: &Bound<'_, PyAny>) -> Result<PipelineSettings> {
    let wrong = |error: PyErr| Error::Argument { argument: "settings", message: error.to_string() };
    let dict = PyDict::new(settings.py());
    dict.call_method1("update", (settings,)).map_err(wrong)?;
    let json = settings.py().import("json")?.call_method1("dumps", (dict,)).map_err(wrong)?;
    Ok(PipelineSettings::parse(&json.extract::<String>()?)?)
}

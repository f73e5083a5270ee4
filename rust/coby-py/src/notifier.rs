//! `_Notifier`: a thread that wakes at an even pace, to measure how long a wake-up takes to reach Python.

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coby_io::engine::EngineError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Result;
use crate::wake::WakeUp;

/// How a wake-up is sent.
enum Signal {
    /// As the engine does.
    Engine(WakeUp),
    /// A byte a notification through a socket pair, for comparison.
    Bare { read: UnixStream, write: UnixStream },
}

impl Signal {
    fn notify(&self) {
        match self {
            Self::Engine(wake) => wake.notify(),
            // A full socket is readable, which is all that is wanted of it.
            Self::Bare { write, .. } => drop((&mut &*write).write(&[1])),
        }
    }
}

struct Shared {
    signal: Signal,
    /// When those notifications were sent that have not been taken.
    sent: Mutex<Vec<Instant>>,
    ended: AtomicBool,
}

impl Shared {
    fn pace(&self, period: Duration, count: u64) {
        let mut due = Instant::now();
        for _ in 0..count {
            due += period;
            // A sleep would come tens of microseconds late.
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            self.signal.notify();
        }
        self.ended.store(true, Ordering::Release);
        self.signal.notify();
    }
}

/// Notifies `count` times, `rate` times a second, on a thread of its own that never takes the GIL; for benches only.
///
/// It drains as an engine does, but its items are nanoseconds between a notification and its `drain`. With `bare`, each
/// notification is a byte through a socket pair, which the caller reads.
#[pyclass(frozen, name = "_Notifier", module = "coby._core")]
pub struct Notifier {
    shared: Arc<Shared>,
}

#[pymethods]
impl Notifier {
    #[new]
    #[pyo3(signature = (rate, count, *, bare=false))]
    fn new(rate: u32, count: u64, bare: bool) -> Result<Self> {
        let made = || {
            if !bare {
                return Ok(Signal::Engine(WakeUp::new()?));
            }
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            write.set_nonblocking(true)?;
            Ok(Signal::Bare { read, write })
        };
        let signal = made().map_err(EngineError::Thread)?;
        let shared = Arc::new(Shared { signal, sent: Mutex::default(), ended: AtomicBool::new(false) });
        let period = Duration::from_secs(1) / rate.max(1);
        let thread = Arc::clone(&shared);
        let spawned =
            std::thread::Builder::new().name("coby-notifier".into()).spawn(move || thread.pace(period, count));
        // It ends by itself, whether or not anyone still listens.
        drop(spawned.map_err(EngineError::Thread)?);
        Ok(Self { shared })
    }

    fn fileno(&self) -> RawFd {
        match &self.shared.signal {
            Signal::Engine(wake) => wake.descriptor(),
            Signal::Bare { read, .. } => read.as_raw_fd(),
        }
    }

    fn drain(&self) -> Vec<u64> {
        if let Signal::Engine(wake) = &self.shared.signal {
            wake.clear();
        }
        let sent = std::mem::take(&mut *self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner));
        sent.iter().map(|sent| u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX)).collect()
    }

    #[getter]
    fn finished(&self) -> bool {
        let ended = self.shared.ended.load(Ordering::Acquire);
        ended && self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    #[expect(clippy::unused_self, reason = "drained() asks it of any engine")]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = PyDict::new(py);
        status.set_item("failed", py.None())?;
        Ok(status)
    }
}

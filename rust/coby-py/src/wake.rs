//! Waking a Python event loop through a file descriptor, without ever taking the GIL.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// A descriptor that is readable from [`WakeUp::notify`] until [`WakeUp::clear`].
pub struct WakeUp {
    read: UnixStream,
    write: UnixStream,
    /// Whether a byte waits: further notifications cost nothing then.
    armed: AtomicBool,
}

impl WakeUp {
    /// Not readable yet.
    pub fn new() -> std::io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { read, write, armed: AtomicBool::new(false) })
    }

    /// What to wait on for reading.
    pub fn descriptor(&self) -> RawFd {
        self.read.as_raw_fd()
    }

    /// Says that something waits; call it after that can be seen.
    pub fn notify(&self) {
        if !self.armed.swap(true, Ordering::AcqRel) {
            // At most one byte is ever on its way, so the socket has room; an interrupted write would be a lost
            // wake-up, and is tried again.
            while (&self.write).write(&[1]).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
        }
    }

    /// Takes the notification back; call it *before* taking what waits.
    pub fn clear(&self) {
        let mut bytes = [0; 8];
        while (&self.read).read(&mut bytes).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
        // Only after the byte is gone: a notification from now on writes a new one. Both sides swap, so one that came
        // earlier is seen here, together with what it announced.
        self.armed.swap(false, Ordering::AcqRel);
    }
}

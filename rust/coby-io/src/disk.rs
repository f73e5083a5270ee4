//! The file layer under tape and stores, replaceable so that power cuts can be tried.
//!
//! A [`Disk`] promises no more than POSIX does: written bytes survive a power cut only after
//! [`DiskWrite::sync`], and a created, renamed or removed name only after [`Disk::sync_dir`] of its
//! directory. [`RealDisk`] is the file system; [`TestDisk`] is in memory and takes away everything
//! that was not synced.

mod real;
mod test_disk;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub use real::RealDisk;
pub use test_disk::TestDisk;

const COPY_CHUNK: usize = 1 << 20;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name, without its directory.
    pub name: String,
    /// Size in bytes; 0 for a directory.
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file open for appending.
pub trait DiskWrite: Send {
    /// Appends all of `bytes`. After an error an unknown part of them was written.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written so far survive a power cut. After an error nothing is known about the
    /// bytes since the last success, and trying again proves nothing: the kernel may have dropped them.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file open for reading.
pub trait DiskRead: Send {
    /// Its size now, in bytes.
    fn bytes(&mut self) -> io::Result<u64>;
    /// Reads at `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Held as long as a [`Disk::lock`] lasts.
pub trait DiskLock: Send + Debug {}

/// A file system. Paths of one disk must be spelled alike; links are not followed specially.
pub trait Disk: Send + Sync + Debug {
    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>>;
    /// Opens an existing file for appending.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>>;
    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>>;
    /// Shortens a file to `bytes` and syncs it.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Renames within one directory, replacing `to` if it exists: after a power cut there is either
    /// the old or the new state, never neither.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates one directory whose parent exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a file, creating it; `WouldBlock` while another process (or another
    /// lock of this one) holds it. The system lets go of it when the process dies.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = self.open(path)?;
        let size = usize::try_from(file.bytes()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut bytes = vec![0; size];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// Creates `dir` and its missing parents, each durable before the next.
pub fn ensure_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    match disk.create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().ok_or(error)?;
            ensure_dir(disk, parent)?;
            disk.create_dir(dir)?;
        }
        Err(error) => return Err(error),
    }
    disk.sync_dir(&parent_of(dir))
}

/// Replaces `path` by `bytes` so that after a power cut there is all of the old or all of the new
/// content: written to `<path>.tmp`, synced, renamed, directory synced.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(path, ".tmp");
    remove_if_there(disk, &temporary)?;
    let mut file = disk.create(&temporary)?;
    file.write_all(bytes)?;
    publish(disk, file, &temporary, path)
}

/// Replaces `to` by the first `bytes` bytes of `from`, like [`write_atomic`]. The two may be one file, which
/// is then cut to that length and durable, even if an earlier sync of it failed.
pub fn copy_atomic(disk: &dyn Disk, from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let temporary = with_suffix(to, ".tmp");
    remove_if_there(disk, &temporary)?;
    let mut source = disk.open(from)?;
    let mut file = disk.create(&temporary)?;
    let mut buffer = vec![0; COPY_CHUNK];
    let mut offset = 0;
    while offset < bytes {
        let wanted = usize::try_from(bytes - offset).unwrap_or(COPY_CHUNK).min(COPY_CHUNK);
        let read = source.read_at(offset, buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        file.write_all(buffer.get(..read).unwrap_or_default())?;
        offset += read as u64;
    }
    publish(disk, file, &temporary, to)
}

/// Makes a written temporary file durable and gives it its name.
pub(crate) fn publish(disk: &dyn Disk, mut file: Box<dyn DiskWrite>, temporary: &Path, path: &Path) -> io::Result<()> {
    file.sync()?;
    drop(file);
    disk.rename(temporary, path)?;
    disk.sync_dir(&parent_of(path))
}

/// Removes a file that may not exist.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `path` with `suffix` after its whole name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory that holds `path`: `.` for a bare name.
pub fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

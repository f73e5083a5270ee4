//! A disk in memory that loses what was not synced.
//!
//! # The model
//! - A file has *live* bytes (what reads see: the page cache) and *durable* bytes (what is on the platter).
//!   [`DiskWrite::sync`] makes the live bytes durable. At a power cut an unsynced file keeps, chosen by
//!   the seed: its durable bytes only; these and the unsynced ones up to an arbitrary byte (a torn
//!   write); the full new length with each unsynced 512-byte sector either there or zero (delayed
//!   allocation, sectors written out of order); or all of it.
//! - A directory has live and durable names. Creates, renames and removes since the last
//!   [`Disk::sync_dir`] are a journal: at a power cut an arbitrary prefix of each directory's journal
//!   survives. A rename is atomic. A file whose name is lost is lost, however often it was synced.
//! - A failed sync is final for the bytes it covered, as on Linux: reads still see them, a later sync
//!   reports success, and at a power cut they are zero.
//! - Faults: a capacity (`StorageFull` after writing what fits), read-only, failing writes, one failing
//!   sync, and [`TestDisk::die_after`], which freezes the disk at an exact operation, in the middle of a
//!   write if it is one, so that [`TestDisk::power_cut`] can be taken at every point of a protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, Disk, DiskLock, DiskRead, DiskWrite, parent_of};

/// What the file system may write or lose by itself.
const SECTOR: usize = 512;

/// A disk in memory with power cuts and faults; the module describes the model. Clones share it.
#[derive(Clone, Debug)]
pub struct TestDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    journal: Vec<Change>,
    locks: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    read_only: bool,
    failing_writes: bool,
    failing_sync: bool,
    operations: u64,
    dies_at: Option<u64>,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir,
}

/// A change of names in one directory.
#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Below this offset `live` and `durable` agree.
    clean: usize,
    /// Bytes that a failed sync gave up.
    lost: Vec<Range<usize>>,
}

/// What an operation finds: to be carried out, or the moment of the disk's death.
#[derive(PartialEq, Eq)]
enum Step {
    Alive,
    Dies,
}

impl TestDisk {
    /// An empty disk; `seed` chooses where writes tear when it dies.
    pub fn new(seed: u64) -> Self {
        Self::with(BTreeMap::new(), BTreeMap::new(), 0, seed)
    }

    fn with(files: BTreeMap<u64, Content>, names: BTreeMap<PathBuf, Node>, next_file: u64, seed: u64) -> Self {
        let state = State {
            files,
            next_file,
            durable_names: names.clone(),
            names,
            journal: Vec::new(),
            locks: BTreeSet::new(),
            capacity: None,
            read_only: false,
            failing_writes: false,
            failing_sync: false,
            operations: 0,
            dies_at: None,
            random: Random(seed),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain data behind; the lock's poison says nothing about it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What survives if the power is cut now, as a disk of its own without faults and locks. This disk
    /// goes on unchanged, so several seeds can be tried at one moment.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random(seed ^ 0x9E37_79B9_7F4A_7C15);
        let names = state.surviving_names(&mut random);
        let mut files = BTreeMap::new();
        for node in names.values() {
            if let Node::File(id) = node
                && let Some(content) = state.files.get(id)
            {
                let bytes = content.surviving(&mut random);
                files
                    .insert(*id, Content { clean: bytes.len(), live: bytes.clone(), durable: bytes, lost: Vec::new() });
            }
        }
        Self::with(files, names, state.next_file, random.next())
    }

    /// Limits the bytes of all files together; what does not fit is `StorageFull`. `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Every change fails with `ReadOnlyFilesystem` while set.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// Every write fails with an I/O error while set.
    pub fn set_failing_writes(&self, failing: bool) {
        self.state().failing_writes = failing;
    }

    /// The next sync of a file fails with an I/O error, and what it covered is lost at a power cut.
    pub fn fail_next_sync(&self) {
        self.state().failing_sync = true;
    }

    /// How many changing operations (create, write, sync, rename, ...) were carried out.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The disk dies at the `operations`-th changing operation from now (0: the next one): if it is a
    /// write, an arbitrary part of it is carried out; from then on everything fails.
    pub fn die_after(&self, operations: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operations);
    }

    /// Changes a byte behind the file system's back: damage for tests. Returns whether there is such a byte.
    pub fn corrupt(&self, path: &Path, offset: usize, mask: u8) -> bool {
        let mut state = self.state();
        let Ok(id) = state.file(path) else { return false };
        let Some(content) = state.files.get_mut(&id) else { return false };
        for bytes in [&mut content.live, &mut content.durable] {
            match bytes.get_mut(offset) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    /// Sets a whole file, durably and without counting as an operation: damage for tests.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.file(path).unwrap_or_else(|_| {
            let id = state.next_file;
            state.next_file += 1;
            state.names.insert(path.to_path_buf(), Node::File(id));
            state.durable_names.insert(path.to_path_buf(), Node::File(id));
            id
        });
        let content = Content { live: bytes.to_vec(), durable: bytes.to_vec(), clean: bytes.len(), lost: Vec::new() };
        state.files.insert(id, content);
    }
}

impl State {
    /// Counts a changing operation and says whether the disk lets it happen.
    fn step(&mut self) -> Result<Step> {
        self.alive()?;
        if self.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        self.operations += 1;
        Ok(if self.dies_at.is_some_and(|at| self.operations > at) { Step::Dies } else { Step::Alive })
    }

    fn alive(&self) -> Result<()> {
        if self.dies_at.is_some_and(|at| self.operations > at) { Err(dead()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|node| match node {
                Node::File(id) => self.files.get(id),
                Node::Dir => None,
            })
            .map(|content| content.live.len() as u64)
            .sum()
    }

    fn file(&self, path: &Path) -> Result<u64> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn content(&mut self, id: u64) -> Result<&mut Content> {
        self.files.get_mut(&id).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn has_dir(&self, dir: &Path) -> bool {
        is_root(dir) || self.names.get(dir) == Some(&Node::Dir)
    }

    fn add(&mut self, path: &Path, node: Node) -> Result<()> {
        if self.names.contains_key(path) || is_root(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if !self.has_dir(&parent_of(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        if self.capacity.is_some_and(|capacity| self.used() >= capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.names.insert(path.to_path_buf(), node);
        self.journal.push(Change::Add(path.to_path_buf(), node));
        Ok(())
    }

    fn write(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        if self.step()? == Step::Dies {
            let part = self.random.below(bytes.len() + 1);
            let torn = bytes.get(..part).unwrap_or(bytes).to_vec();
            self.content(id)?.live.extend(torn);
            return Err(dead());
        }
        if self.failing_writes {
            return Err(Error::other("injected write error"));
        }
        let free = self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used()) as usize);
        let fits = bytes.get(..free).unwrap_or(bytes);
        self.content(id)?.live.extend_from_slice(fits);
        if fits.len() < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, id: u64) -> Result<()> {
        if self.step()? == Step::Dies {
            return Err(dead());
        }
        let failing = std::mem::take(&mut self.failing_sync);
        let content = self.content(id)?;
        if failing {
            content.lost.push(content.clean..content.live.len());
            return Err(Error::other("injected sync error"));
        }
        content.sync();
        Ok(())
    }

    /// The durable names and, of every directory's journal, a prefix.
    fn surviving_names(&self, random: &mut Random) -> BTreeMap<PathBuf, Node> {
        let mut left = BTreeMap::new();
        for change in &self.journal {
            *left.entry(change.dir()).or_insert(0) += 1;
        }
        for count in left.values_mut() {
            *count = match random.below(3) {
                0 => 0,
                1 => *count,
                _ => random.below(*count + 1),
            };
        }
        let mut names = self.durable_names.clone();
        for change in &self.journal {
            if let Some(count) = left.get_mut(&change.dir())
                && *count > 0
            {
                *count -= 1;
                change.apply(&mut names);
            }
        }
        // A name in a directory that is itself lost is lost.
        let kept: BTreeSet<PathBuf> =
            names.iter().filter(|(_, node)| **node == Node::Dir).map(|(path, _)| path.clone()).collect();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).all(|dir| is_root(dir) || dir.as_os_str().is_empty() || kept.contains(dir))
        };
        names.retain(|path, _| reachable(path));
        names
    }
}

impl Content {
    fn sync(&mut self) {
        self.durable.truncate(self.clean.min(self.durable.len()));
        let from = self.durable.len();
        self.durable.extend_from_slice(self.live.get(from..).unwrap_or_default());
        for lost in &self.lost {
            let end = lost.end.min(self.durable.len());
            if let Some(bytes) = self.durable.get_mut(lost.start.min(end)..end) {
                bytes.fill(0);
            }
        }
        self.clean = self.live.len();
    }

    fn surviving(&self, random: &mut Random) -> Vec<u8> {
        let unsynced = self.live.len().saturating_sub(self.clean);
        let mut bytes = match random.below(4) {
            0 => return self.durable.clone(),
            1 => {
                let keep = self.clean + random.below(unsynced + 1);
                self.live.get(..keep).unwrap_or(&self.live).to_vec()
            }
            2 => {
                let mut bytes = self.live.clone();
                for sector in bytes.get_mut(self.clean..).unwrap_or_default().chunks_mut(SECTOR) {
                    if random.below(2) == 0 {
                        sector.fill(0);
                    }
                }
                bytes
            }
            _ => self.live.clone(),
        };
        // What a failed sync gave up never reached the platter, whatever else did.
        for lost in &self.lost {
            let end = lost.end.min(bytes.len());
            if let Some(bytes) = bytes.get_mut(lost.start.min(end)..end) {
                bytes.fill(0);
            }
        }
        bytes
    }
}

impl Change {
    fn dir(&self) -> PathBuf {
        match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Rename(path, ..) => parent_of(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug)]
struct TestWrite {
    disk: TestDisk,
    id: u64,
}

impl DiskWrite for TestWrite {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.disk.state().write(self.id, bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.disk.state().sync(self.id)
    }
}

struct TestRead {
    disk: TestDisk,
    id: u64,
}

impl DiskRead for TestRead {
    fn bytes(&mut self) -> Result<u64> {
        let mut state = self.disk.state();
        state.alive()?;
        Ok(state.content(self.id)?.live.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut state = self.disk.state();
        state.alive()?;
        let live = &state.content(self.id)?.live;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let bytes = live.get(from..).unwrap_or_default();
        let read = bytes.len().min(buffer.len());
        if let (Some(to), Some(bytes)) = (buffer.get_mut(..read), bytes.get(..read)) {
            to.copy_from_slice(bytes);
        }
        Ok(read)
    }
}

#[derive(Debug)]
struct TestLock {
    disk: TestDisk,
    path: PathBuf,
}

impl DiskLock for TestLock {}

impl Drop for TestLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskWrite>> {
        let mut state = self.state();
        if state.step()? == Step::Dies {
            return Err(dead());
        }
        let id = state.next_file;
        state.add(path, Node::File(id))?;
        state.next_file += 1;
        state.files.insert(id, Content::default());
        Ok(Box::new(TestWrite { disk: self.clone(), id }))
    }

    fn append(&self, path: &Path) -> Result<Box<dyn DiskWrite>> {
        let state = self.state();
        state.alive()?;
        if state.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(Box::new(TestWrite { disk: self.clone(), id: state.file(path)? }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskRead>> {
        let state = self.state();
        state.alive()?;
        Ok(Box::new(TestRead { disk: self.clone(), id: state.file(path)? }))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> Result<()> {
        let mut state = self.state();
        if state.step()? == Step::Dies {
            return Err(dead());
        }
        let id = state.file(path)?;
        let content = state.content(id)?;
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX).min(content.live.len());
        content.live.truncate(keep);
        content.clean = content.clean.min(keep);
        content.sync();
        for lost in &mut content.lost {
            lost.end = lost.end.min(keep);
        }
        content.lost.retain(|lost| lost.start < lost.end);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        if state.step()? == Step::Dies {
            return Err(dead());
        }
        if parent_of(from) != parent_of(to) {
            return Err(Error::new(ErrorKind::CrossesDevices, "a rename stays within its directory"));
        }
        let id = state.file(from)?;
        let change = Change::Rename(from.to_path_buf(), to.to_path_buf(), Node::File(id));
        change.apply(&mut state.names);
        state.journal.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.file(path)?;
        if state.step()? == Step::Dies {
            return Err(dead());
        }
        state.names.remove(path);
        state.journal.push(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        if state.has_dir(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if state.step()? == Step::Dies {
            return Err(dead());
        }
        state.add(path, Node::Dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let state = self.state();
        state.alive()?;
        if !state.has_dir(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let entry = |(path, node): (&PathBuf, &Node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            match node {
                Node::Dir => Some(DirEntry { name, bytes: 0, is_dir: true }),
                Node::File(id) => Some(DirEntry { name, bytes: state.files.get(id)?.live.len() as u64, is_dir: false }),
            }
        };
        let mut entries: Vec<_> =
            state.names.iter().filter(|(path, _)| parent_of(path) == dir).filter_map(entry).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.state();
        if !state.has_dir(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        if state.step()? == Step::Dies {
            return Err(dead());
        }
        let journal = std::mem::take(&mut state.journal);
        let (synced, rest): (Vec<_>, Vec<_>) = journal.into_iter().partition(|change| change.dir() == dir);
        state.journal = rest;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>> {
        let mut state = self.state();
        state.alive()?;
        if !state.has_dir(&parent_of(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        if !state.locks.insert(path.to_path_buf()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(TestLock { disk: self.clone(), path: path.to_path_buf() }))
    }
}

/// `/`, and `.` for bare names.
fn is_root(path: &Path) -> bool {
    path == Path::new("/") || path == Path::new(".")
}

fn dead() -> Error {
    Error::other("the disk has died")
}

/// `SplitMix64`: a full-period generator whose whole state is its seed.
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{ensure_dir, write_atomic};

    fn all_cuts(disk: &TestDisk) -> Vec<TestDisk> {
        (0..200).map(|seed| disk.power_cut(seed)).collect()
    }

    #[test]
    fn synced_bytes_under_a_synced_name_always_survive_and_others_may_not() {
        let disk = TestDisk::new(1);
        let path = Path::new("/a");
        let mut file = disk.create(path).unwrap();
        file.write_all(b"first").unwrap();
        file.sync().unwrap();
        assert!(all_cuts(&disk).iter().any(|cut| cut.read(path).is_err()), "an unsynced name can be lost");
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_all(&[7; 3000]).unwrap();
        let cuts: Vec<_> = all_cuts(&disk).iter().map(|cut| cut.read(path).unwrap()).collect();
        assert!(cuts.iter().all(|bytes| bytes.starts_with(b"first")));
        assert!(cuts.iter().any(|bytes| bytes.len() == 5), "lost");
        assert!(cuts.iter().any(|bytes| bytes.len() > 5 && bytes.len() < 3005), "torn");
        assert!(cuts.iter().any(|bytes| bytes.len() == 3005 && bytes.contains(&0)), "out of order");
        assert!(cuts.iter().any(|bytes| bytes.len() == 3005 && !bytes.contains(&0)), "kept");
    }

    #[test]
    fn an_atomic_write_is_old_or_new_at_every_operation() {
        let path = Path::new("/d/a");
        for operations in 0..12 {
            for seed in 0..50 {
                let disk = TestDisk::new(seed);
                ensure_dir(&disk, Path::new("/d")).unwrap();
                write_atomic(&disk, path, b"old").unwrap();
                disk.die_after(operations);
                let done = write_atomic(&disk, path, b"newer").is_ok();
                let found = disk.power_cut(seed).read(path).unwrap();
                assert!(if done { found == b"newer" } else { found == b"old" || found == b"newer" });
            }
        }
    }

    #[test]
    fn a_failed_sync_is_final() {
        let disk = TestDisk::new(3);
        let path = Path::new("/a");
        let mut file = disk.create(path).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_all(b"good").unwrap();
        file.sync().unwrap();
        file.write_all(b"bad").unwrap();
        disk.fail_next_sync();
        file.sync().unwrap_err();
        file.sync().unwrap();
        assert_eq!(disk.read(path).unwrap(), b"goodbad");
        assert!(all_cuts(&disk).iter().all(|cut| cut.read(path).unwrap() == b"good\0\0\0"));
        disk.truncate(path, 4).unwrap();
        assert!(all_cuts(&disk).iter().all(|cut| cut.read(path).unwrap() == b"good"));
    }

    #[test]
    fn faults_are_what_they_say() {
        let disk = TestDisk::new(4);
        let mut file = disk.create(Path::new("/a")).unwrap();
        disk.set_capacity(Some(5));
        assert_eq!(file.write_all(b"1234567").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(disk.read(Path::new("/a")).unwrap(), b"12345");
        assert_eq!(disk.create(Path::new("/b")).err().unwrap().kind(), ErrorKind::StorageFull);
        disk.set_capacity(None);
        disk.set_read_only(true);
        assert_eq!(file.write_all(b"8").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        disk.set_read_only(false);
        let held = disk.lock(Path::new("/lock")).unwrap();
        assert_eq!(disk.lock(Path::new("/lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(held);
        disk.lock(Path::new("/lock")).unwrap();
        disk.die_after(1);
        disk.create(Path::new("/c")).unwrap();
        file.write_all(b"9").unwrap_err();
        file.sync().unwrap_err();
        disk.read(Path::new("/a")).unwrap_err();
    }
}

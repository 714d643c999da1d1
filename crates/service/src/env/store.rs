//! Durable state: a few small named files, replaced whole, and files of records, changed by transactions.
//!
//! What always holds: after [`Store::write_durable`] has returned, a crash of process or machine leaves the new
//! content; before that it leaves the old one, never a mixture. An error names the file, what was attempted, and what
//! an operator can do ([`StoreError::next_step`]). The calls block: daemons run them on [`super::Blocking`].
//!
//! State is for one user alone: files are regular files of mode 0600 whatever the umask is, and a symbolic link, a FIFO or a
//! directory in the place of one is an error at once. Links in the path of the state directory are followed.
//!
//! What it leaves out: formats. Content is bytes, and only the owner of a name knows what they mean.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, PoisonError},
};

use redb::{StorageBackend, backends::FileBackend};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::records::{Format, Place, Records, RecordsError, memory_disk::Disk};
use super::store_error::StoreError;

/// The file that a process keeps locked while it uses a state directory. Its content is the pid of that process.
const LOCK_FILE: &str = "lock";

/// The mode of every file of state: for its own user alone. An identity or a lock is nobody else's business.
const PRIVATE: u32 = 0o600;
/// The mode of a state directory that did not exist.
const PRIVATE_DIR: u32 = 0o700;

/// Where a daemon keeps what must survive it.
pub trait Store: Send + Sync {
    /// The content under `name`, or none if it was never written.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces the content under `name`; returns once it would survive a power failure.
    fn write_durable(&self, name: &str, content: &[u8]) -> Result<(), StoreError>;

    /// Opens the records under `name`, or none yet if they were never written. Only one at a time can have them open.
    fn open_records(&self, name: &str, format: Format) -> Result<Records, RecordsError>;

    /// Where the content under `name` is, for people.
    fn location(&self, name: &str) -> PathBuf;

    /// Takes this store for one daemon alone, until the returned lock is dropped.
    fn lock(&self) -> Result<StoreLock, StoreError>;

    /// The part of this store that belongs to `name`: the same part each time.
    fn child(&self, name: &str) -> Arc<dyn Store>;
}

/// The store is locked until this is dropped. The kernel releases the lock when the process dies, however it dies.
pub struct StoreLock {
    _held: Box<dyn Any + Send + Sync>,
}

/// A directory of files, created by the first write into it.
#[derive(Clone, Debug)]
pub struct FileStore {
    dir: PathBuf,
    /// Held during a write, because two writes of one name would share a temporary file.
    writing: Arc<Mutex<()>>,
}

impl FileStore {
    /// State in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> FileStore {
        FileStore { dir: dir.into(), writing: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(file_name(name))
    }

    fn create_dir(&self) -> Result<(), StoreError> {
        if self.dir.is_dir() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_DIR)
            .create(&self.dir)
            .map_err(|e| StoreError::io("create the directory", &self.dir, e))?;
        // A directory entry is durable once its parent is synced.
        match self.dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
            _ => Ok(()),
        }
    }
}

impl Store for FileStore {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(name);
        let read = open_regular(&path, OpenOptions::new().read(true)).and_then(|mut file| {
            let mut content = Vec::new();
            file.read_to_end(&mut content).map(|_| content)
        });
        match read {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", &path, e)),
        }
    }

    fn write_durable(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.create_dir()?;
        let path = self.path(name);
        let temporary = self.dir.join(format!(".{}.new", file_name(name)));
        let written = replace(&temporary, &path, content);
        if written.is_err() {
            // Do not leave half a file on a full disk. If this fails too, the first error says more, and the next write
            // truncates the leftover.
            drop(fs::remove_file(&temporary));
        }
        written.map_err(|e| StoreError::io("write", &path, e))?;
        sync_dir(&self.dir)
    }

    fn open_records(&self, name: &str, format: Format) -> Result<Records, RecordsError> {
        Records::open(Box::new(FilePlace { store: self.clone(), name: name.to_owned() }), format)
    }

    fn location(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    fn lock(&self) -> Result<StoreLock, StoreError> {
        self.create_dir()?;
        let path = self.dir.join(LOCK_FILE);
        let fail = |e| StoreError::io("lock", &path, e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = open_regular(&path, &mut options).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // This only names the holder. The lock is held even if the content cannot be read.
                let holder = match file.read_to_string(&mut pid) {
                    Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                    _ => "another process".to_owned(),
                };
                return Err(StoreError::Locked { path, holder });
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(fail)?;
        Ok(StoreLock { _held: Box::new(file) })
    }

    fn child(&self, name: &str) -> Arc<dyn Store> {
        Arc::new(FileStore { dir: self.path(name), writing: self.writing.clone() })
    }
}

/// A file of records in a directory.
struct FilePlace {
    store: FileStore,
    name: String,
}

impl FilePlace {
    /// Where the file is prepared.
    fn temporary(&self) -> PathBuf {
        self.store.dir.join(format!(".{}.new", file_name(&self.name)))
    }

    fn prepare(&self) -> io::Result<File> {
        let temporary = self.temporary();
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = open_regular(&temporary, OpenOptions::new().read(true).write(true).create_new(true))?;
        file.set_permissions(Permissions::from_mode(PRIVATE))?; // the umask may have taken away more
        Ok(file)
    }
}

impl Place for FilePlace {
    fn path(&self) -> PathBuf {
        self.store.path(&self.name)
    }

    fn open(&self) -> Result<Option<Box<dyn StorageBackend>>, redb::Error> {
        match open_regular(&self.path(), OpenOptions::new().read(true).write(true)) {
            Ok(file) => Ok(Some(Box::new(FileBackend::new(file)?))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn create(&self) -> Result<Box<dyn StorageBackend>, StoreError> {
        self.store.create_dir()?;
        let fail = |e| StoreError::io("create", &self.path(), e);
        let backend = FileBackend::new(self.prepare().map_err(fail)?);
        Ok(Box::new(backend.map_err(|e| fail(io::Error::other(e)))?))
    }

    fn publish(&self) -> Result<(), StoreError> {
        fs::rename(self.temporary(), self.path()).map_err(|e| StoreError::io("create", &self.path(), e))?;
        sync_dir(&self.store.dir)
    }

    fn discard(&self) {
        // If this fails, the error that led here says more, and the next attempt removes the leftover.
        drop(fs::remove_file(self.temporary()));
    }
}

fn replace(temporary: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    // Whatever is left of an earlier attempt goes. Only a directory cannot, and then nothing can be written.
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let existing = fs::symlink_metadata(path);
    if existing.is_ok_and(|existing| !existing.is_file()) {
        return Err(not_regular());
    }
    let mut file = open_regular(temporary, OpenOptions::new().write(true).create_new(true))?;
    file.set_permissions(Permissions::from_mode(PRIVATE))?; // the umask may have taken away more
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// Opens a file of state. It does not follow a link, and does not wait for the other end of a FIFO.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = options.mode(PRIVATE).custom_flags(flags.bits() as i32).open(path);
    let file = opened.map_err(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) => {
            io::Error::new(ErrorKind::InvalidInput, "it is a symbolic link, which is not followed")
        }
        // A FIFO without a reader, or a socket.
        Some(Errno::NXIO) => not_regular(),
        _ => e,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| StoreError::io("sync", dir, e))
}

/// A name as one path component: whatever could leave the directory or hide the file is escaped as `%XX`.
fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            b'.' if at > 0 => out.push('.'),
            _ => write!(out, "%{byte:02X}").expect("a String takes any text"),
        }
    }
    out
}

/// How the accesses to a [`MemoryStore`] can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Writes fail as on a full disk (ENOSPC).
    FullDisk,
    /// Writes fail as on a read-only file system (EROFS).
    ReadOnly,
    /// Every access fails for lack of permission (EACCES).
    Denied,
}

/// State in memory, for simulations and for processes without a state directory. Clones share it, so a test can keep one
/// clone while daemons stop and start on another.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    prefix: String,
    shared: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    locked: BTreeSet<String>,
    fault: Option<StoreFault>,
    /// Files of records by number.
    disks: BTreeMap<u64, RecordFile>,
    /// Their numbers by name.
    record_files: BTreeMap<String, u64>,
    last_disk: u64,
    /// How many more writes succeed before the power goes, and the seed of what is left then.
    power: Option<(u64, u64)>,
}

/// A file of records in memory.
#[derive(Debug, Default)]
struct RecordFile {
    disk: Disk,
    /// Who opened it last. Earlier ones are cut off, as a process that died.
    opened: u64,
}

impl Memory {
    fn lose_power(&mut self, seed: u64) {
        self.power = None;
        for (number, file) in &mut self.disks {
            file.disk.lose_power(seed.wrapping_add(*number));
            file.opened += 1;
        }
    }

    /// The error of an access under the current fault.
    fn refusal(&self, writes: bool, grows: bool) -> Option<io::Error> {
        let errno = match self.fault? {
            StoreFault::Denied => Errno::ACCESS,
            StoreFault::FullDisk if grows => Errno::NOSPC,
            StoreFault::ReadOnly if writes => Errno::ROFS,
            _ => return None,
        };
        Some(errno.into())
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// From now on, until set to none, this store and all its children and clones fail in this way.
    pub fn set_fault(&self, fault: Option<StoreFault>) {
        self.with(|memory| memory.fault = fault);
    }

    /// The machine loses its power: what files of records have not synced is lost, or as much of it as `seed` chooses, and
    /// what is open now is cut off. A daemon that starts on this store then finds what a real disk could hold.
    pub fn lose_power(&self, seed: u64) {
        self.with(|memory| memory.lose_power(seed));
    }

    /// As [`MemoryStore::lose_power`], at the `n`-th write, sync or change of length of a file of records from now; 0 is the
    /// next one. A new call replaces the one before, and [`MemoryStore::lose_power`] ends it.
    pub fn lose_power_at_write(&self, n: u64, seed: u64) {
        self.with(|memory| memory.power = Some((n, seed)));
    }

    /// Bytes of content of all files of records.
    #[cfg(test)]
    pub(super) fn record_bytes(&self) -> usize {
        self.with(|memory| memory.disks.values().map(|file| file.disk.kept()).sum())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Memory) -> T) -> T {
        f(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{}", self.prefix, file_name(name))
    }

    fn access<T>(
        &self,
        action: &'static str,
        name: &str,
        f: impl FnOnce(&mut Memory, String) -> T,
    ) -> Result<T, StoreError> {
        let key = self.key(name);
        self.with(|memory| {
            let writes = action != "read";
            match memory.refusal(writes, writes) {
                Some(error) => Err(StoreError::io(action, &Path::new("(memory)").join(&key), error)),
                None => Ok(f(memory, key)),
            }
        })
    }
}

impl Store for MemoryStore {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.access("read", name, |memory, key| memory.files.get(&key).cloned())
    }

    fn write_durable(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.access("write", name, |memory, key| {
            memory.files.insert(key, content.to_vec());
        })
    }

    fn open_records(&self, name: &str, format: Format) -> Result<Records, RecordsError> {
        Records::open(Box::new(MemoryPlace { store: self.clone(), name: name.to_owned() }), format)
    }

    fn location(&self, name: &str) -> PathBuf {
        Path::new("(memory)").join(self.key(name))
    }

    fn lock(&self) -> Result<StoreLock, StoreError> {
        let taken = self.access("lock", LOCK_FILE, |memory, key| (memory.locked.insert(key.clone()), key))?;
        match taken {
            (true, key) => Ok(StoreLock { _held: Box::new(MemoryLock { key, shared: self.shared.clone() }) }),
            (false, key) => Err(StoreError::Locked {
                path: Path::new("(memory)").join(key),
                holder: format!("another daemon in process {}", process::id()),
            }),
        }
    }

    fn child(&self, name: &str) -> Arc<dyn Store> {
        Arc::new(MemoryStore { prefix: format!("{}/", self.key(name)), shared: self.shared.clone() })
    }
}

/// A file of records in a [`MemoryStore`].
struct MemoryPlace {
    store: MemoryStore,
    name: String,
}

impl MemoryPlace {
    /// Where the file is prepared. No other name leads there, as `file_name` writes a dot at the start as `%2E`.
    fn temporary(&self) -> String {
        format!("{}.{}.new", self.store.prefix, file_name(&self.name))
    }

    fn handle(&self, memory: &mut Memory, number: u64) -> Box<dyn StorageBackend> {
        let file = memory.disks.entry(number).or_default();
        file.opened += 1;
        Box::new(MemoryHandle { shared: self.store.shared.clone(), number, opened: file.opened })
    }
}

impl Place for MemoryPlace {
    fn path(&self) -> PathBuf {
        self.store.location(&self.name)
    }

    fn open(&self) -> Result<Option<Box<dyn StorageBackend>>, redb::Error> {
        self.store.with(|memory| match memory.refusal(false, false) {
            Some(error) => Err(error.into()),
            None => {
                let number = memory.record_files.get(&self.store.key(&self.name)).copied();
                Ok(number.map(|number| self.handle(memory, number)))
            }
        })
    }

    fn create(&self) -> Result<Box<dyn StorageBackend>, StoreError> {
        self.discard();
        self.store.with(|memory| match memory.refusal(true, true) {
            Some(error) => Err(StoreError::io("create", &self.path(), error)),
            None => {
                memory.last_disk += 1;
                let number = memory.last_disk;
                memory.record_files.insert(self.temporary(), number);
                Ok(self.handle(memory, number))
            }
        })
    }

    fn publish(&self) -> Result<(), StoreError> {
        self.store.with(|memory| {
            if let Some(number) = memory.record_files.remove(&self.temporary()) {
                memory.record_files.insert(self.store.key(&self.name), number);
            }
        });
        Ok(())
    }

    fn discard(&self) {
        self.store.with(|memory| {
            if let Some(number) = memory.record_files.remove(&self.temporary()) {
                memory.disks.remove(&number);
            }
        });
    }
}

/// An open file of records in a [`MemoryStore`].
#[derive(Debug)]
struct MemoryHandle {
    shared: Arc<Mutex<Memory>>,
    number: u64,
    opened: u64,
}

impl MemoryHandle {
    /// An access that writes nothing.
    fn look<T>(&self, f: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        let memory = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match (memory.refusal(false, false), memory.disks.get(&self.number)) {
            (Some(error), _) => Err(error),
            (None, Some(file)) if file.opened == self.opened => f(&file.disk),
            _ => Err(cut_off()),
        }
    }

    /// An access that changes the disk, before which or with which the power may go.
    fn change(&self, grows: bool, syncs: bool, f: impl FnOnce(&mut Disk)) -> io::Result<()> {
        let mut memory = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = memory.refusal(true, grows) {
            return Err(error);
        }
        let Memory { disks, power, .. } = &mut *memory;
        let Some(file) = disks.get_mut(&self.number).filter(|file| file.opened == self.opened) else {
            return Err(cut_off());
        };
        let now = match power {
            Some((0, seed)) => Some(*seed),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if now.is_none() || !syncs {
            f(&mut file.disk);
        }
        match now {
            Some(seed) => {
                memory.lose_power(seed);
                Err(cut_off())
            }
            None => Ok(()),
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "the file is no longer open: its machine lost its power")
}

impl StorageBackend for MemoryHandle {
    fn len(&self) -> io::Result<u64> {
        self.look(|disk| Ok(disk.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.look(|disk| disk.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let grows = len > self.len()?;
        self.change(grows, false, |disk| disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(false, true, Disk::sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(true, false, |disk| disk.write(offset, data))
    }
}

struct MemoryLock {
    key: String,
    shared: Arc<Mutex<Memory>>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).locked.remove(&self.key);
    }
}

#[cfg(test)]
mod tests;

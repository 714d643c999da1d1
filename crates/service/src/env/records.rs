//! A durable table of records: keys and values, changed by transactions.
//!
//! What always holds: when [`Records::commit`] has returned without an error, its changes are on the disk, all of them,
//! and a crash of process or machine leaves them there. A commit that failed has left nothing, and the next one may
//! succeed. The file has the version of its format. A newer one is refused, and an older one is migrated in one
//! transaction. Damage is an error at the start that names the file, which is kept.
//!
//! The file is a database of redb. A file that nobody has written to does not exist, so a daemon without records costs
//! nothing. Each commit is in two phases: first the data is synced, then the pointer to it. So after a power failure the
//! pointer never leads to data that is not there, and what does not match its checksum is damage. With one sync, damage
//! could not be told from a write that was cut off, and the last commit would be dropped without a word.
//!
//! What it leaves out: what keys and values mean, and waiting; see `RecordWriter`.

pub(super) mod memory_disk;
pub(super) mod writer;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use redb::{Database, Error as RedbError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{blocking::panic_message, store_error::StoreError};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// Numbers about the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The version of the format, in `META`.
const VERSION: &str = "version";
/// The number of the last commit, in `META`.
const COMMITS: &str = "commits";

/// How much of the file redb may keep in memory. A host has a few hundred records of some hundred bytes.
const CACHE_BYTES: usize = 512 << 10;

/// One record: its key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

/// What one step of migration does: from all records in the older format to the changes that bring them to the next.
pub type Migration = fn(&[Record]) -> Result<Vec<Change>, String>;

/// The format of a file of records.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The version that this program writes. The first one is 1.
    pub version: u32,
    /// The steps from version 1 to 2, from 2 to 3 and so on up to `version`.
    pub migrations: &'static [Migration],
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which record is changed.
    pub key: Vec<u8>,
    /// The new value, or none to delete the record.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Writes a record, whether or not there is one.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
        Change { key: key.into(), value: Some(value.into()) }
    }

    /// Deletes a record, if there is one.
    pub fn delete(key: impl Into<Vec<u8>>) -> Change {
        Change { key: key.into(), value: None }
    }
}

/// A failed access to records.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The operating system refused, or another process uses the file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A newer program has written the file.
    #[error(
        "cannot open {}: its format has version {found}, and this program knows versions up to {known}",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u64,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The content is not what was written.
    #[error("cannot use {}: it is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A step of migration refused the records.
    #[error("cannot migrate {} from version {from} of its format: {reason}", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The version that the step starts from.
        from: u32,
        /// What the step said.
        reason: String,
    },
}

impl RecordsError {
    /// What an operator can do about it.
    pub fn next_step(&self) -> String {
        match self {
            RecordsError::Store(error) => error.next_step(),
            RecordsError::NewerFormat { path, .. } => format!(
                "run the newer version of this program again; {} is unchanged and is never overwritten",
                path.display()
            ),
            RecordsError::Damaged { path, .. } => format!(
                "check the disk; {0} is kept and is never overwritten; to start without its records, which are then \
                 lost to this program, move {0} away and restart",
                path.display()
            ),
            RecordsError::Migration { path, .. } => {
                format!("run the older version of this program again; {} is unchanged", path.display())
            }
        }
    }
}

/// Where a file of records is.
pub(super) trait Place: Send + Sync {
    /// For people.
    fn path(&self) -> PathBuf;

    /// The file, or none if it was never written.
    fn open(&self) -> Result<Option<Box<dyn StorageBackend>>, RedbError>;

    /// A new, empty file in preparation, in place of what an earlier attempt left.
    fn create(&self) -> Result<Box<dyn StorageBackend>, StoreError>;

    /// Makes the file in preparation the file, durably.
    fn publish(&self) -> Result<(), StoreError>;

    /// Removes the file in preparation.
    fn discard(&self);
}

/// A boxed backend as a backend.
#[derive(Debug)]
struct Device(Box<dyn StorageBackend>);

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let grows = len > self.0.len()?;
        self.0.set_len(len)?;
        // redb writes the new length into its header before the next sync. If the header reached the disk and the length
        // did not, the file would be shorter than it says, and redb refuses it.
        if grows { self.0.sync_data() } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

/// What takes back a commit that failed, in case that it is in the file all the same.
struct Undo {
    /// The number of that commit.
    commit: u64,
    /// The values before it, in the order of its changes.
    before: Vec<Change>,
}

/// An open table of records. Its calls block.
pub struct Records {
    place: Box<dyn Place>,
    format: Format,
    /// None before the first commit, and after an error: redb accepts nothing after a failed write, and is opened again.
    database: Option<Database>,
    /// The number of the last commit.
    commits: u64,
    doubtful: Option<Undo>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({})", self.place.path().display())
    }
}

impl Records {
    /// Opens what is in `place`; it is verified as a whole, and migrated if its format is older.
    pub(super) fn open(place: Box<dyn Place>, format: Format) -> Result<Records, RecordsError> {
        let steps = u32::try_from(format.migrations.len()).ok();
        assert_eq!(
            steps.and_then(|steps| steps.checked_add(1)),
            Some(format.version),
            "a step from each older version"
        );
        let mut records = Records { place, format, database: None, commits: 0, doubtful: None };
        records.guarded(Records::open_existing)?;
        Ok(records)
    }

    /// All records in the order of their keys.
    pub fn load(&mut self) -> Result<Vec<Record>, RecordsError> {
        self.guarded(|records| {
            if records.database.is_none() {
                records.open_existing()?;
            }
            match &records.database {
                Some(database) => read_all(database).map_err(|e| records.error("read", e)),
                None => Ok(Vec::new()),
            }
        })
    }

    /// Makes all changes, in order, or none. It returns when they would survive a power failure.
    ///
    /// After an error none of them is there. Only if the disk does not take back what it half accepted, and the process
    /// ends before a later call succeeds, may the next process find all of them.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), RecordsError> {
        let outcome = self.guarded(|records| records.try_commit(changes));
        if self.doubtful.is_some() {
            // If it cannot be taken back now, the next call does it first. The first error says more.
            drop(self.guarded(Records::open_existing));
        }
        outcome
    }

    /// redb asserts what it expects of a file, so on a damaged one it may panic. That is an error too.
    fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut Records) -> Result<T, RecordsError>,
    ) -> Result<T, RecordsError> {
        catch_unwind(AssertUnwindSafe(|| call(self)))
            .unwrap_or_else(|payload| Err(self.damaged(panic_message(payload.as_ref()))))
    }

    fn try_commit(&mut self, changes: &[Change]) -> Result<(), RecordsError> {
        if self.database.is_none() {
            self.open_existing()?;
        }
        // Taken out, so that after an error or a panic it is opened again.
        let database = match self.database.take() {
            Some(database) => database,
            None => self.create()?,
        };
        let mut before = Vec::with_capacity(changes.len());
        match write(&database, self.commits + 1, None, changes, &mut before) {
            Ok(()) => {
                self.commits += 1;
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                self.doubtful = Some(Undo { commit: self.commits + 1, before });
                Err(self.error("write", error))
            }
        }
    }

    /// Opens the file if there is one, and sees that what it has is what was acknowledged.
    fn open_existing(&mut self) -> Result<(), RecordsError> {
        let opened = self.place.open().map_err(|e| self.error("open", e))?;
        let Some(backend) = opened else {
            self.doubtful = None;
            self.commits = 0;
            return Ok(());
        };
        if backend.len().map_err(|e| self.error("open", e.into()))? == 0 {
            return Err(self.damaged("it is empty".to_owned()));
        }
        let database = verified(backend).map_err(|e| self.error("open", e))?;
        let meta = read_meta(&database).map_err(|e| self.error("read", e))?;
        let (Some(version), Some(commits)) = meta else {
            return Err(self.damaged("it has no version".to_owned()));
        };
        self.commits = commits;
        if let Some(undo) = &self.doubtful {
            if undo.commit == commits {
                let back: Vec<_> = undo.before.iter().rev().cloned().collect();
                write(&database, commits + 1, None, &back, &mut Vec::new())
                    .map_err(|e| self.error("write", e))?;
                self.commits += 1;
            }
            self.doubtful = None;
        }
        self.migrate(&database, version)?;
        self.database = Some(database);
        Ok(())
    }

    fn migrate(&mut self, database: &Database, found: u64) -> Result<(), RecordsError> {
        let (path, known) = (self.place.path(), self.format.version);
        let from = match u32::try_from(found) {
            Ok(0) => return Err(self.damaged("its version is 0".to_owned())),
            Ok(version) if version == known => return Ok(()),
            Ok(version) if version < known => version,
            _ => return Err(RecordsError::NewerFormat { path, found, known }),
        };
        let mut records = read_all(database).map_err(|e| self.error("read", e))?;
        let mut changes = Vec::new();
        for (step, version) in self.format.migrations[from as usize - 1..].iter().zip(from..) {
            let made = step(&records).map_err(|reason| RecordsError::Migration {
                path: path.clone(),
                from: version,
                reason,
            })?;
            let mut table: BTreeMap<_, _> = records.into_iter().collect();
            for Change { key, value } in made.iter().cloned() {
                match value {
                    Some(value) => drop(table.insert(key, value)),
                    None => drop(table.remove(&key)),
                }
            }
            records = table.into_iter().collect();
            changes.extend(made);
        }
        write(database, self.commits + 1, Some(known), &changes, &mut Vec::new())
            .map_err(|e| self.error("migrate", e))?;
        self.commits += 1;
        tracing::info!(path = %path.display(), from, to = known, "migrated the records to the newer format");
        Ok(())
    }

    /// An empty file with its version. It is prepared under another name, so a crash leaves it whole or absent.
    fn create(&mut self) -> Result<Database, RecordsError> {
        let backend = self.place.create()?;
        let made = builder().create_with_backend(Device(backend)).map_err(RedbError::from).and_then(|new| {
            write(&new, 0, Some(self.format.version), &[], &mut Vec::new())?;
            Ok(new)
        });
        let made = made
            .map_err(|e| self.error("write", e))
            .and_then(|new| self.place.publish().map(|()| new).map_err(RecordsError::from));
        match made {
            Ok(database) => {
                self.commits = 0;
                Ok(database)
            }
            Err(error) => {
                self.place.discard();
                Err(error)
            }
        }
    }

    fn damaged(&self, what: String) -> RecordsError {
        RecordsError::Damaged { path: self.place.path(), what }
    }

    fn error(&self, action: &'static str, error: RedbError) -> RecordsError {
        let path = self.place.path();
        match error {
            RedbError::Io(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                self.damaged("it is no file of records, or its end is missing".to_owned())
            }
            RedbError::Io(source) => StoreError::io(action, &path, source).into(),
            RedbError::DatabaseAlreadyOpen => {
                StoreError::Locked { path, holder: "another process".to_owned() }.into()
            }
            RedbError::PreviousIo | RedbError::DatabaseClosed | RedbError::LockPoisoned(_) => {
                StoreError::io(action, &path, io::Error::other(error.to_string())).into()
            }
            RedbError::ValueTooLarge(_) => {
                let source = io::Error::new(ErrorKind::FileTooLarge, error.to_string());
                StoreError::io(action, &path, source).into()
            }
            other => self.damaged(other.to_string()),
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Closing writes the list of free pages, which spares the next start from making it.
        let database = self.database.take();
        drop(self.guarded(|_| {
            drop(database);
            Ok(())
        }));
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opens a database and compares all of it with its checksums.
fn verified(backend: Box<dyn StorageBackend>) -> Result<Database, RedbError> {
    let mut database = builder().create_with_backend(Device(backend))?;
    // False means that the list of free pages was made anew, as after a crash. What a commit wrote is never given up,
    // because commits are in two phases: if it does not match, that is an error.
    database.check_integrity()?;
    Ok(database)
}

fn read_meta(database: &Database) -> Result<(Option<u64>, Option<u64>), RedbError> {
    let meta = database.begin_read()?.open_table(META)?;
    let number = |key| Ok::<_, RedbError>(meta.get(key)?.map(|value| value.value()));
    Ok((number(VERSION)?, number(COMMITS)?))
}

fn read_all(database: &Database) -> Result<Vec<Record>, RedbError> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        records.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(records)
}

/// One transaction: the changes, their number, and the version if it changes. Adds to `before` what was there.
fn write(
    database: &Database,
    commit: u64,
    version: Option<u32>,
    changes: &[Change],
    before: &mut Vec<Change>,
) -> Result<(), RedbError> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut table = transaction.open_table(RECORDS)?;
        for Change { key, value } in changes {
            let old = match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                None => table.remove(key.as_slice())?,
            };
            before.push(Change { key: key.clone(), value: old.map(|old| old.value().to_vec()) });
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(COMMITS, commit)?;
        if let Some(version) = version {
            meta.insert(VERSION, u64::from(version))?;
        }
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests;

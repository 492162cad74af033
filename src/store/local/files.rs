//! The blocking half of the local store: plain file calls.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::direct::Direct;
use crate::store::{Listed, StoreError};
use crate::types::{ByteRange, DATA_PREFIX, ObjectId};

/// Largest piece a read is cut into, in bytes, so that a reader who keeps one piece does not keep a whole large read alive.
pub(super) const PIECE: u64 = 256 * 1024;
const SHARDS: usize = 256;

/// The directory and what is open of it.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    temporary: PathBuf,
    /// The 256 directories below `data/`, opened when first written to and kept open to be synced.
    shards: Vec<OnceLock<File>>,
    next_temporary: AtomicU64,
    direct: Direct,
    /// Locked as long as somebody uses the directory, so that nobody removes temporary files in use.
    _in_use: File,
}

impl Files {
    pub(super) fn open(root: PathBuf) -> Result<Files, StoreError> {
        let temporary = root.join("tmp");
        for dir in [root.join(DATA_PREFIX), temporary.clone()] {
            fs::create_dir_all(&dir).map_err(|error| failed(&error, "create", &dir))?;
        }
        sync_directory(&root)?;
        let in_use = claim(&root, &temporary)?;
        let shards = (0..SHARDS).map(|_| OnceLock::new()).collect();
        Ok(Files { root, temporary, shards, next_temporary: AtomicU64::new(0), direct: Direct::new(), _in_use: in_use })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn put(&self, object: ObjectId, pieces: &[Bytes]) -> Result<(), StoreError> {
        let shard = self.shard(object)?;
        let path = self.path(object);
        let temporary = self.new_temporary(object);
        let stored = self.write(&temporary, pieces).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = stored {
            // Best effort: what stays is removed at the next start.
            let _ = fs::remove_file(&temporary);
            return Err(failed(&error, "write", &path));
        }
        // The name must survive a power failure too, or the object is lost though its bytes are there.
        shard.sync_all().map_err(|error| failed(&error, "sync the directory of", &path))
    }

    fn write(&self, path: &Path, pieces: &[Bytes]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        if self.direct.suits(pieces.iter().map(|piece| piece.len() as u64).sum())
            && let Some(file) = self.direct.open(&mut options.clone(), path)?
            && self.direct.write(&file, pieces)?.is_some()
        {
            return file.sync_data();
        }
        write_durably(options.open(path)?, pieces)
    }

    pub(super) fn get(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        let path = self.path(object);
        match self.read(&path, range) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::NotFound(object)),
            read => read.map_err(|error| failed(&error, "read", &path))?.ok_or(StoreError::OutOfRange { object, range }),
        }
    }

    /// The bytes of `range` as far as the file goes; `None` if it begins at or behind the end.
    fn read(&self, path: &Path, range: ByteRange) -> io::Result<Option<Vec<Bytes>>> {
        if self.direct.suits(range.len)
            && let Some(file) = self.direct.open(OpenOptions::new().read(true), path)?
        {
            let Some(range) = within(&file, range)? else { return Ok(None) };
            if let Some(pieces) = self.direct.read(&file, range)? {
                return Ok(Some(pieces));
            }
        }
        let file = File::open(path)?;
        within(&file, range)?.map(|range| read_range(file, range)).transpose()
    }

    /// Tries all, also after one has failed.
    pub(super) fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for object in objects {
            let path = self.path(*object);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => outcome = Err(failed(&error, "remove", &path)),
                Ok(()) | Err(_) => {}
            }
        }
        outcome
    }

    pub(super) fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        for shard in after.map_or(0, |id| id.shard())..=u8::MAX {
            let dir = self.root.join(format!("{DATA_PREFIX}{shard:02x}"));
            // After the shard of `after`, every id is behind it.
            let behind = after.filter(|id| id.shard() == shard);
            for object in objects_in(&dir, shard, behind)? {
                if listed.len() == limit {
                    return Ok(listed);
                }
                listed.extend(self.size_of(object)?.map(|bytes| Listed { object, bytes }));
            }
        }
        Ok(listed)
    }

    /// `None` for an object that was deleted meanwhile.
    fn size_of(&self, object: ObjectId) -> Result<Option<u64>, StoreError> {
        let path = self.path(object);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error, "look at", &path)),
        }
    }

    /// Writes a few bytes, reads them back and removes them.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let data = self.root.join(DATA_PREFIX);
        fs::read_dir(&data).map_err(|error| failed(&error, "read the directory", &data))?;
        let probe = self.new_temporary(ObjectId::default());
        let mut file = File::create_new(&probe).map_err(|error| failed(&error, "create", &probe))?;
        let read = file.write_all(b"yaks").and_then(|()| fs::read(&probe));
        let removed = fs::remove_file(&probe);
        let read = read.map_err(|error| failed(&error, "write and read", &probe))?;
        removed.map_err(|error| failed(&error, "remove", &probe))?;
        if read == b"yaks" { Ok(()) } else { Err(StoreError::Unavailable(format!("{} does not hold what was written", probe.display()))) }
    }

    fn path(&self, object: ObjectId) -> PathBuf {
        self.root.join(object.key())
    }

    /// A name of its own for every try, so that a retry and a hedge of the same object never write to the same file.
    fn new_temporary(&self, object: ObjectId) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // Another process may use the directory.
        self.temporary.join(format!("{object}.{}.{number}", std::process::id()))
    }

    /// The open directory of the object's shard, made if it is missing.
    fn shard(&self, object: ObjectId) -> Result<&File, StoreError> {
        let slot = &self.shards[usize::from(object.shard())];
        if let Some(open) = slot.get() {
            return Ok(open);
        }
        let data = self.root.join(DATA_PREFIX);
        let dir = data.join(format!("{:02x}", object.shard()));
        fs::create_dir_all(&dir).map_err(|error| failed(&error, "create", &dir))?;
        sync_directory(&data)?;
        let open = File::open(&dir).map_err(|error| failed(&error, "open", &dir))?;
        Ok(slot.get_or_init(|| open))
    }
}

/// Removes what dead processes left in `temporary`, unless a live one uses the directory; then marks it as used.
fn claim(root: &Path, temporary: &Path) -> Result<File, StoreError> {
    let path = root.join("in-use");
    let cannot = |error: io::Error| failed(&error, "lock", &path);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {
            remove_files_in(temporary)?;
            file.unlock().map_err(cannot)?;
        }
        Err(fs::TryLockError::WouldBlock) => {}
        Err(fs::TryLockError::Error(error)) => return Err(cannot(error)),
    }
    // Somebody may hold the lock alone just now, to clean up: that takes no time.
    file.lock_shared().map_err(cannot)?;
    Ok(file)
}

fn remove_files_in(dir: &Path) -> Result<(), StoreError> {
    let cannot = |error: io::Error| failed(&error, "clear", dir);
    for entry in fs::read_dir(dir).map_err(cannot)? {
        fs::remove_file(entry.map_err(cannot)?.path()).map_err(cannot)?;
    }
    Ok(())
}

fn write_durably(mut file: File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().filter(|p| !p.is_empty()).map(|p| IoSlice::new(p)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.sync_data()
}

/// As much of `range` as the file has; `None` if it begins at or behind the end.
fn within(file: &File, range: ByteRange) -> io::Result<Option<ByteRange>> {
    let end = file.metadata()?.len().min(range.start.saturating_add(range.len));
    Ok((range.start < end).then(|| ByteRange { start: range.start, len: end - range.start }))
}

fn read_range(mut file: File, range: ByteRange) -> io::Result<Vec<Bytes>> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut pieces = Vec::new();
    let mut left = range.len;
    while left > 0 {
        let wanted = left.min(PIECE);
        let mut piece = Vec::with_capacity(wanted as usize);
        if (&file).take(wanted).read_to_end(&mut piece)? as u64 != wanted {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        pieces.push(Bytes::from(piece));
        left -= wanted;
    }
    Ok(pieces)
}

/// The objects in one shard's directory behind `behind`, in order; files that are no objects are skipped.
fn objects_in(dir: &Path, shard: u8, behind: Option<ObjectId>) -> Result<Vec<ObjectId>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(&error, "list", dir))?,
    };
    let mut objects = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed(&error, "list", dir))?.file_name();
        let object = name.to_str().and_then(|name| ObjectId::from_key(&format!("{DATA_PREFIX}{shard:02x}/{name}")));
        objects.extend(object.filter(|object| behind.is_none_or(|behind| *object > behind)));
    }
    objects.sort_unstable();
    Ok(objects)
}

fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(&error, "sync", dir))
}

fn failed(error: &io::Error, doing: &str, path: &Path) -> StoreError {
    let why = format!("cannot {doing} {}: {error}", path.display());
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        StoreError::Full(why)
    } else if matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory | ErrorKind::AlreadyExists
    ) {
        StoreError::Refused(why)
    } else {
        StoreError::Unavailable(why)
    }
}

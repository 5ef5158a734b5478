//! The archive directory: which blocks it has, and how further ones get into it whole.
//!
//! ```text
//! DIR/genesis.json                  only for a chain other than mainnet
//! DIR/codes.json.gz                 all codes by hash
//! DIR/blocks/NUMBER/block.json.gz
//! DIR/blocks/NUMBER/prestate.json.gz
//! DIR/.fetch/                       while a fetch runs: blocks that are not finished
//! DIR/.fetch.lock                   locked while a fetch runs
//! ```
//!
//! **Invariant:** whatever is in `blocks/` is complete, its codes included, whenever the process
//! dies. A block is written to `.fetch/`; then its codes are added to the store, which is replaced
//! by rename; then the block's directory is renamed into place.

use super::{chain::Chain, error::ArchiveError, prestate::RecordedPrestate};
use alloy::primitives::{B256, Bytes, keccak256};
use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

const BLOCK_FILE: &str = "block.json.gz";
const PRESTATE_FILE: &str = "prestate.json.gz";
const CODES_FILE: &str = "codes.json.gz";
const GENESIS_FILE: &str = "genesis.json";
const BLOCKS_FOLDER: &str = "blocks";
const STAGING_FOLDER: &str = ".fetch";
const MAINNET: u64 = 1;

/// All codes of an archive. Tasks read it while the archive adds to it.
#[derive(Debug, Default)]
pub(super) struct CodeStore(Mutex<BTreeMap<B256, Bytes>>);

impl CodeStore {
    /// The code with this hash.
    pub(super) fn get(&self, hash: B256) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }

    /// Adds codes. Returns whether one of them is new.
    fn extend(&self, codes: BTreeMap<B256, Bytes>) -> bool {
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = store.len();
        store.extend(codes);
        store.len() > before
    }

    fn to_map(&self) -> BTreeMap<B256, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An archive that this process alone writes to.
#[derive(Debug)]
pub(super) struct Archive {
    root: PathBuf,
    codes: CodeStore,
    /// Held as long as the archive is open.
    _lock: File,
}

/// A block that is written, but not yet in its place.
#[derive(Debug)]
pub(super) struct StagedBlock {
    number: u64,
    codes: BTreeMap<B256, Bytes>,
}

impl Archive {
    /// Opens an archive, or makes a new one.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; in particular if it is locked by another process, or if its blocks are of
    /// another chain.
    pub(super) fn open(root: &Path, chain: &Chain) -> Result<Self, ArchiveError> {
        let blocks = root.join(BLOCKS_FOLDER);
        fs::create_dir_all(&blocks).map_err(|cause| io_error("creating", &blocks, cause))?;
        let lock_path = root.join(".fetch.lock");
        let lock =
            File::create(&lock_path).map_err(|cause| io_error("creating", &lock_path, cause))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ArchiveError::Locked(root.to_owned()),
            TryLockError::Error(cause) => io_error("locking", &lock_path, cause),
        })?;
        let archive = Self { root: root.to_owned(), codes: CodeStore::default(), _lock: lock };
        archive.clear_staging()?;
        archive.check_chain(chain)?;
        archive.load_codes()?;
        Ok(archive)
    }

    /// The codes of all blocks.
    pub(super) const fn codes(&self) -> &CodeStore {
        &self.codes
    }

    /// Whether the archive has a block.
    pub(super) fn has(&self, number: u64) -> bool {
        let folder = self.block_folder(number);
        [BLOCK_FILE, PRESTATE_FILE].iter().all(|file| folder.join(file).is_file())
    }

    /// Writes a block beside its final place. May run for several blocks at once.
    pub(super) fn stage(
        &self,
        number: u64,
        block: &Value,
        mut prestate: RecordedPrestate,
    ) -> Result<StagedBlock, ArchiveError> {
        let folder = self.staging_folder().join(number.to_string());
        fs::create_dir_all(&folder).map_err(|cause| io_error("creating", &folder, cause))?;
        let codes = prestate.take_codes();
        write_gzip(&folder.join(BLOCK_FILE), block)?;
        write_gzip(&folder.join(PRESTATE_FILE), &prestate)?;
        Ok(StagedBlock { number, codes })
    }

    /// Puts staged blocks in their places, replacing what is there.
    pub(super) fn commit(&self, blocks: Vec<StagedBlock>) -> Result<(), ArchiveError> {
        let mut changed = false;
        let mut numbers = Vec::with_capacity(blocks.len());
        for StagedBlock { number, codes } in blocks {
            changed |= self.codes.extend(codes);
            numbers.push(number);
        }
        if changed {
            let staged = self.staging_folder().join(CODES_FILE);
            write_gzip(&staged, &self.codes.to_map())?;
            rename(&staged, &self.root.join(CODES_FILE))?;
        }
        for number in numbers {
            let (staged, place) =
                (self.staging_folder().join(number.to_string()), self.block_folder(number));
            // A directory cannot be replaced in one step. Between the two renames the block is
            // missing, which the next run repairs; it is never half there.
            let replaced = self.staging_folder().join(format!("{number}.replaced"));
            if place.exists() {
                rename(&place, &replaced)?;
            }
            rename(&staged, &place)?;
            remove_folder(&replaced)?;
        }
        Ok(())
    }

    /// Removes what is not finished.
    pub(super) fn close(self) -> Result<(), ArchiveError> {
        remove_folder(&self.staging_folder())
    }

    fn block_folder(&self, number: u64) -> PathBuf {
        self.root.join(BLOCKS_FOLDER).join(number.to_string())
    }

    fn staging_folder(&self) -> PathBuf {
        self.root.join(STAGING_FOLDER)
    }

    fn clear_staging(&self) -> Result<(), ArchiveError> {
        let folder = self.staging_folder();
        remove_folder(&folder)?;
        fs::create_dir_all(&folder).map_err(|cause| io_error("creating", &folder, cause))
    }

    /// Refuses to mix chains, and writes down which chain this one is.
    fn check_chain(&self, chain: &Chain) -> Result<(), ArchiveError> {
        let path = self.root.join(GENESIS_FILE);
        let blocks = self.root.join(BLOCKS_FOLDER);
        let is_empty = fs::read_dir(&blocks)
            .map_err(|cause| io_error("reading", &blocks, cause))?
            .next()
            .is_none();
        let genesis: Option<Value> = read_if_there(&path, BufReader::new)?;
        let held = match &genesis {
            Some(genesis) => genesis
                .pointer("/config/chainId")
                .and_then(Value::as_u64)
                .ok_or_else(|| ArchiveError::Malformed {
                    path: path.clone(),
                    cause: "it names no config.chainId".to_owned(),
                })?,
            None => MAINNET,
        };
        let offered = chain.spec.chain_id();
        if held != offered && !(is_empty && genesis.is_none()) {
            return Err(ArchiveError::OtherChain { path: self.root.clone(), held, offered });
        }
        if let (None, Some(genesis)) = (genesis, &chain.genesis) {
            let staged = self.staging_folder().join(GENESIS_FILE);
            write_file(&staged, |file| serde_json::to_writer_pretty(file, genesis))?;
            rename(&staged, &path)?;
        }
        Ok(())
    }

    fn load_codes(&self) -> Result<(), ArchiveError> {
        let path = self.root.join(CODES_FILE);
        let stored: Option<BTreeMap<B256, Bytes>> =
            read_if_there(&path, |file| MultiGzDecoder::new(BufReader::new(file)))?;
        let stored = stored.unwrap_or_default();
        for (stated, code) in &stored {
            let actual = keccak256(code);
            if actual != *stated {
                let cause = format!("the code stored under {stated} has hash {actual}");
                return Err(ArchiveError::Malformed { path, cause });
            }
        }
        self.codes.extend(stored);
        Ok(())
    }
}

/// Reads JSON, or nothing where there is no such file.
fn read_if_there<T: DeserializeOwned, R: io::Read>(
    path: &Path,
    decode: impl FnOnce(File) -> R,
) -> Result<Option<T>, ArchiveError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(io_error("reading", path, cause)),
    };
    serde_json::from_reader(BufReader::new(decode(file))).map(Some).map_err(|cause| {
        ArchiveError::Malformed { path: path.to_owned(), cause: cause.to_string() }
    })
}

fn write_gzip(path: &Path, value: &impl Serialize) -> Result<(), ArchiveError> {
    write_file(path, |file| {
        let mut gzip = BufWriter::new(GzEncoder::new(file, Compression::default()));
        serde_json::to_writer(&mut gzip, value)?;
        let gzip = gzip.into_inner().map_err(|error| serde_json::Error::io(error.into_error()))?;
        gzip.finish().map_err(serde_json::Error::io)?;
        Ok(())
    })
}

/// Writes a file to the disk itself: a rename that survives a power cut must not outlive the
/// content.
fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), serde_json::Error>,
) -> Result<(), ArchiveError> {
    let file = File::create(path).map_err(|cause| io_error("creating", path, cause))?;
    let mut writer = BufWriter::new(&file);
    write(&mut writer)
        .map_err(io::Error::from)
        .and_then(|()| writer.flush())
        .and_then(|()| file.sync_all())
        .map_err(|cause| io_error("writing", path, cause))
}

fn rename(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    fs::rename(from, to).map_err(|cause| io_error("moving into place", to, cause))
}

fn remove_folder(path: &Path) -> Result<(), ArchiveError> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(io_error("removing", path, cause))
        }
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path, cause: io::Error) -> ArchiveError {
    ArchiveError::Io { action, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mainnet() -> Chain {
        Chain::new(1, None).unwrap()
    }

    fn record(code: &'static [u8]) -> RecordedPrestate {
        let mut record = RecordedPrestate::default();
        record.note_code(keccak256(code), Bytes::from_static(code));
        record
    }

    fn read<T: DeserializeOwned>(path: PathBuf) -> T {
        read_if_there(&path, |file| MultiGzDecoder::new(BufReader::new(file))).unwrap().unwrap()
    }

    #[test]
    fn a_block_is_there_only_once_it_is_whole_and_codes_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path(), &mainnet()).unwrap();
        let first = archive.stage(7, &json!({"number": "0x7"}), record(&[1])).unwrap();
        assert!(!archive.has(7));
        archive.commit(vec![first]).unwrap();
        assert!(archive.has(7));
        // Left unfinished, as by a kill.
        archive.stage(8, &json!({}), record(&[2])).unwrap();
        drop(archive);

        let archive = Archive::open(folder.path(), &mainnet()).unwrap();
        assert!(archive.has(7) && !archive.has(8));
        assert_eq!(archive.codes().get(keccak256([1])), Some(Bytes::from_static(&[1])));
        let again = archive.stage(7, &json!({"number": "0x07"}), record(&[3])).unwrap();
        archive.commit(vec![again]).unwrap();
        archive.close().unwrap();

        let block: Value = read(folder.path().join("blocks/7/block.json.gz"));
        assert_eq!(block, json!({"number": "0x07"}));
        let codes: BTreeMap<B256, Bytes> = read(folder.path().join(CODES_FILE));
        assert_eq!(codes.len(), 2);
        assert!(!folder.path().join(STAGING_FOLDER).exists());
        assert!(!folder.path().join(GENESIS_FILE).exists());
    }

    #[test]
    fn chains_are_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let sepolia = Chain::new(11_155_111, None).unwrap();
        let archive = Archive::open(folder.path(), &sepolia).unwrap();
        archive.close().unwrap();
        Archive::open(folder.path(), &sepolia).unwrap();
        let error = Archive::open(folder.path(), &mainnet()).unwrap_err().to_string();
        assert!(error.contains("holds blocks of chain 11155111"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path(), &mainnet()).unwrap();
        let block = archive.stage(1, &json!({}), RecordedPrestate::default()).unwrap();
        archive.commit(vec![block]).unwrap();
        drop(archive);
        let error = Archive::open(folder.path(), &sepolia).unwrap_err().to_string();
        assert!(error.contains("holds blocks of chain 1,"), "{error}");
    }

    #[test]
    fn one_writer_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Archive::open(folder.path(), &mainnet()).unwrap();
        let error = Archive::open(folder.path(), &mainnet()).unwrap_err();
        assert!(matches!(error, ArchiveError::Locked(_)), "{error}");
    }

    #[test]
    fn a_damaged_code_store_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path()).unwrap();
        let codes = BTreeMap::from([(B256::ZERO, Bytes::from_static(&[1]))]);
        write_gzip(&folder.path().join(CODES_FILE), &codes).unwrap();
        let error = Archive::open(folder.path(), &mainnet()).unwrap_err().to_string();
        assert!(error.contains("codes.json.gz") && error.contains("has hash"), "{error}");
        fs::write(folder.path().join(CODES_FILE), "no gzip").unwrap();
        assert!(Archive::open(folder.path(), &mainnet()).is_err());
    }
}

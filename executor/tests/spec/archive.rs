//! Reading archives of spec tests.

use crate::fixture::{self, SpecTest};
use flate2::read::GzDecoder;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    sync::mpsc,
    thread,
};

/// The archives are compressed with a window of 2^27 bytes, more than zstd accepts unasked.
const WINDOW_LOG_MAX: u32 = 27;
/// How a file begins that the archive's makers left in Git's large file storage.
const GIT_LFS_POINTER: &[u8] = b"version https://git-lfs";
/// Files that are read ahead of their tests.
const FILES_AHEAD: usize = 8;

/// Reads one gzipped JSON file of tests.
pub(crate) fn read_json_gz(path: &Path) -> Result<BTreeMap<String, SpecTest>, String> {
    let read = || -> io::Result<_> {
        let mut content = Vec::new();
        GzDecoder::new(BufReader::new(File::open(path)?)).read_to_end(&mut content)?;
        Ok(fixture::parse(&content)?)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

/// Streams the JSON files of a tar archive to `consume`, never holding more than a few of them.
pub(crate) fn stream_tar_zst<T: Send>(
    path: &Path,
    consume: impl FnOnce(mpsc::IntoIter<(String, Vec<u8>)>) -> T + Send,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::sync_channel(FILES_AHEAD);
    thread::scope(|scope| {
        let consumer = scope.spawn(move || consume(receiver.into_iter()));
        let produced = send_files(path, &sender);
        drop(sender);
        let consumed = consumer.join().map_err(|_| "a consumer of the archive panicked")?;
        produced.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(consumed)
    })
}

fn send_files(path: &Path, sender: &mpsc::SyncSender<(String, Vec<u8>)>) -> io::Result<()> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    for entry in tar::Archive::new(decoder).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        if name.ends_with(".json") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if content.starts_with(GIT_LFS_POINTER) {
                eprintln!("left out: {name} is a pointer to a file that the archive lacks");
                continue;
            }
            if sender.send((name, content)).is_err() {
                // The consumer ended; its own panic says why.
                break;
            }
        }
    }
    Ok(())
}

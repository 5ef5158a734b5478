//! Where blocks come from: directories, or the embedded sample.
//!
//! It knows paths and chain rules. Nothing is executed here.

use crate::args::BlockList;
use anyhow::{Context, bail, ensure};
use multilane::state::ChainSpec;
use multilane_fixtures::{
    archive::{ArchivedBlock, BlockArchive, BlockEntry},
    sample::sample_files,
};
use std::path::{Path, PathBuf};

/// The archives of a run, with the blocks that were asked for.
#[derive(Debug)]
pub(crate) struct Source {
    archives: Vec<Archive>,
}

#[derive(Debug)]
struct Archive {
    archive: BlockArchive,
    selected: Vec<BlockEntry>,
}

/// A block that was found and not yet read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundBlock<'a> {
    archive: &'a BlockArchive,
    entry: &'a BlockEntry,
}

impl Source {
    /// Finds the blocks at `paths`, or those of the embedded sample if there are no paths.
    ///
    /// # Errors
    ///
    /// If a path holds no blocks, or a part of the selection selects none.
    pub(crate) fn open(
        paths: &[PathBuf],
        selection: Option<&BlockList>,
        chain: Option<&ChainSpec>,
    ) -> anyhow::Result<Self> {
        let mut archives = Vec::with_capacity(paths.len().max(1));
        if paths.is_empty() {
            archives.push(BlockArchive::from_files("embedded sample", sample_files())?);
        }
        for path in paths {
            archives.push(open_directory(path)?);
        }
        if let Some(list) = selection {
            let numbers: Vec<_> =
                archives.iter().flat_map(BlockArchive::entries).map(|entry| entry.number).collect();
            if let Some(part) = list.unmatched(&numbers) {
                bail!("--blocks: there is no block {part} here ({})", span(&numbers));
            }
        }
        let archives = archives.into_iter().map(|archive| {
            let is_selected =
                |entry: &BlockEntry| selection.is_none_or(|list| list.contains(entry.number));
            let selected =
                archive.entries().iter().filter(|entry| is_selected(entry)).cloned().collect();
            let archive = match chain {
                Some(chain) => archive.with_chain(chain.clone()),
                None => archive,
            };
            Archive { archive, selected }
        });
        Ok(Self { archives: archives.collect() })
    }

    /// The selected blocks, path by path, by number within each.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = FoundBlock<'_>> {
        self.archives.iter().flat_map(|Archive { archive, selected }| {
            selected.iter().map(move |entry| FoundBlock { archive, entry })
        })
    }
}

impl FoundBlock<'_> {
    /// The number in the name of its directory.
    pub(crate) const fn number(&self) -> u64 {
        self.entry.number
    }

    /// Where it is, for messages.
    pub(crate) fn origin(&self) -> &str {
        &self.entry.origin
    }

    /// Reads the block.
    pub(crate) fn load(&self) -> anyhow::Result<ArchivedBlock> {
        Ok(self.archive.load(self.entry)?)
    }
}

fn open_directory(path: &Path) -> anyhow::Result<BlockArchive> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    ensure!(
        metadata.is_dir(),
        "{}: not a directory; give the directory of a block, or of an archive",
        path.display()
    );
    let archive = BlockArchive::open(path)?;
    ensure!(!archive.entries().is_empty(), "{}: there are no blocks in it", path.display());
    Ok(archive)
}

/// "127 blocks from 1 to 23879620".
fn span(numbers: &[u64]) -> String {
    match (numbers.iter().min(), numbers.iter().max()) {
        (Some(first), Some(last)) if first != last => {
            format!("{} blocks from {first} to {last}", numbers.len())
        }
        (Some(only), _) => format!("only block {only}"),
        _ => "no blocks at all".into(),
    }
}

//! Block access lists (EIP-7928) in files: a first replay saves what each block accessed, a later
//! one knows it beforehand.
//!
//! There is one JSON file a block, `NUMBER.json`. It says which block it belongs to, and the hash of
//! the list: a file of another chain, or one that is damaged, is an error and not a slow replay.

use super::{
    report::{Failure, FailureKind},
    settings::ListUse,
};
use crate::args::ReplayArgs;
use alloy::eips::eip7928::{BlockAccessList, compute_block_access_list_hash};
use alloy_primitives::B256;
use anyhow::{Context, ensure};
use multilane::{AccessHints, state::BlockInput};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where lists come from and go to.
#[derive(Clone, Debug)]
pub(crate) struct AccessLists {
    list_use: ListUse,
    directory: PathBuf,
}

/// The content of a file. Fields are only ever added.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListFile {
    block: u64,
    /// Absent for a block without a sealed header.
    block_hash: Option<B256>,
    access_list_hash: B256,
    access_list: BlockAccessList,
}

impl AccessLists {
    /// What the arguments ask for. Makes the directory that lists are saved to.
    pub(crate) fn open(args: &ReplayArgs) -> anyhow::Result<Self> {
        let list_use = ListUse::from(args);
        if let Some(directory) = &args.save_access_lists {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        let directory = args.save_access_lists.as_ref().or(args.access_lists.as_ref());
        Ok(Self { list_use, directory: directory.cloned().unwrap_or_default() })
    }

    /// What is known about a block before it is executed.
    pub(crate) fn hints(&self, block: &BlockInput) -> Result<AccessHints, Failure> {
        let read = || read(&self.path(block), block).map(Arc::new).map_err(unusable);
        Ok(match self.list_use {
            ListUse::None | ListUse::Saved => AccessHints::None,
            ListUse::Advisory => AccessHints::Advisory(read()?),
            ListUse::Enforced => AccessHints::Enforced(read()?),
        })
    }

    /// Saves what a block accessed, if it is to be saved.
    pub(crate) fn keep(
        &self,
        block: &BlockInput,
        list: Option<&BlockAccessList>,
    ) -> Result<(), Failure> {
        match (self.list_use, list) {
            (ListUse::Saved, Some(list)) => write(&self.path(block), block, list).map_err(unusable),
            _ => Ok(()),
        }
    }

    fn path(&self, block: &BlockInput) -> PathBuf {
        self.directory.join(format!("{}.json", block.header.number))
    }
}

fn unusable(error: anyhow::Error) -> Failure {
    Failure { kind: FailureKind::Unreadable, error: format!("access list {error:#}") }
}

fn read(path: &Path, block: &BlockInput) -> anyhow::Result<BlockAccessList> {
    let read = || -> anyhow::Result<BlockAccessList> {
        let content = fs::read(path)?;
        let file: ListFile = serde_json::from_slice(&content).context("not an access list")?;
        let hash = compute_block_access_list_hash(&file.access_list);
        ensure!(
            hash == file.access_list_hash,
            "damaged: the list has hash {hash}, not {}",
            file.access_list_hash
        );
        ensure!(
            file.block == block.header.number && file.block_hash == block.hash,
            "it is that of {}, not of {}",
            name(file.block, file.block_hash),
            name(block.header.number, block.hash)
        );
        Ok(file.access_list)
    };
    read().with_context(|| path.display().to_string())
}

fn name(number: u64, hash: Option<B256>) -> String {
    match hash {
        Some(hash) => format!("block {number} {hash}"),
        None => format!("block {number} without a hash"),
    }
}

/// Writes a file whole, or leaves what was there.
fn write(path: &Path, block: &BlockInput, list: &BlockAccessList) -> anyhow::Result<()> {
    let file = ListFile {
        block: block.header.number,
        block_hash: block.hash,
        access_list_hash: compute_block_access_list_hash(list),
        access_list: list.clone(),
    };
    let staged = path.with_extension("json.part");
    let write = || -> anyhow::Result<()> {
        fs::write(&staged, serde_json::to_vec(&file)?)?;
        Ok(fs::rename(&staged, path)?)
    };
    write().with_context(|| path.display().to_string())
}

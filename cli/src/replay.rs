//! The command `replay`.

use crate::{args::ReplayArgs, exit::Exit};

pub(crate) fn run(_args: &ReplayArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("work in progress")
}

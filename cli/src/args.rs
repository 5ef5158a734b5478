//! What a user can type, and what it means.
//!
//! The structs here are the words of the command line (low arguments). Each command turns its own
//! into what it will do; nothing here opens a file or starts a thread.

mod block_list;

pub(crate) use block_list::BlockList;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::{num::NonZeroUsize, path::PathBuf};

/// Execute Ethereum blocks on all cores, with the result that one core would give.
#[derive(Debug, Parser)]
#[command(
    name = "multilane",
    version = concat!(env!("CARGO_PKG_VERSION"), " (allocator: mimalloc)"),
    after_help = EXAMPLES,
    subcommand_required = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(crate::bench::BenchArgs),
    Fetch(crate::fetch::FetchArgs),
    Predict(PredictArgs),
    Replay(ReplayArgs),
}

const EXAMPLES: &str = "\
Examples:
  multilane replay                      replay the embedded sample chain
  multilane replay data/mainnet         replay every block of an archive
  multilane help replay                 what replay reads, checks and reports
  multilane predict data/mainnet        show how well accesses are foreseen
  multilane fetch --rpc URL --blocks 100..110 --to blocks     write blocks of a node to an archive
  multilane bench                       what threads gain, beside honest baselines

The memory allocator is mimalloc.";

/// Execute blocks sequentially and in parallel, and verify both results.
///
/// Every block is executed by alloy-evm's sequential executor and by the parallel one. The two must
/// agree to the byte (receipts, state changes with their reverts, requests), and with the block's
/// own header: gas used, receipts root, logs bloom, blob gas, requests hash, withdrawals and
/// transactions root, header hash, and the state root where the witness is complete.
///
/// Each engine first executes a block once to verify the result; this also warms the caches. Then
/// both are timed in turn over the same loaded input. Loading and verifying are never timed.
#[derive(Clone, Debug, Args)]
#[command(after_help = REPLAY_SHORT_HELP, after_long_help = REPLAY_HELP)]
pub(crate) struct ReplayArgs {
    /// Archive directories (with blocks/), or directories of single blocks [default: the embedded
    /// sample]
    ///
    /// A block directory holds block.json, prestate.json or witness.json, and optionally
    /// expected.json, each plain, .gz or .zst. An archive holds blocks/<number>/ and codes.json.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Worker threads of the parallel engine [default: all cores]
    #[arg(short = 't', long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Which engine executes the blocks
    #[arg(short, long, value_enum, value_name = "ENGINE", default_value_t = Engine::Both)]
    pub(crate) engine: Engine,

    /// Timed executions of each engine; the median time is reported
    #[arg(short, long, value_name = "K", default_value = "1")]
    pub(crate) repeat: NonZeroUsize,

    /// Only these blocks: numbers and inclusive ranges, such as 19426586,12244000..12244010
    #[arg(short, long, value_name = "LIST")]
    pub(crate) blocks: Option<BlockList>,

    /// How to print the results
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// Chain rules (geth genesis JSON) of blocks that are not Ethereum mainnet's
    #[arg(short, long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,

    /// What was learned about contracts before, and what is learned now: read at the start, written
    /// at the end
    #[arg(short, long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,

    /// Save which accounts and slots each block accesses: one file a block
    ///
    /// The lists are block access lists (EIP-7928), also of blocks from before Amsterdam. Both
    /// engines record them, in their timed executions too.
    #[arg(long, value_name = "DIR", conflicts_with = "access_lists")]
    pub(crate) save_access_lists: Option<PathBuf>,

    /// Let the parallel engine know each block's access list, as an earlier replay saved it
    ///
    /// Nothing is executed in vain then. What comes out is verified as always: a list that is wrong
    /// makes a block slower, and nothing else. A list that is missing, damaged or another block's is
    /// an error.
    #[arg(long, value_name = "DIR")]
    pub(crate) access_lists: Option<PathBuf>,

    /// Take a block whose access list is not exactly the given one for invalid
    #[arg(long, requires = "access_lists")]
    pub(crate) enforce_access_lists: bool,

    /// Use every worker even where the executor expects no gain from it
    ///
    /// Without it, a small block, or one that is a single chain of dependent transactions, runs
    /// sequentially by the executor's own judgement.
    #[arg(long)]
    pub(crate) force_parallel: bool,

    /// Stop after the first block that does not verify
    #[arg(long)]
    pub(crate) fail_fast: bool,

    /// Print no progress, and in a table only failures and totals
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Show every check, and how the parallel engine went about each block
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub(crate) verbose: bool,
}

/// Show how well the accesses of transactions are foreseen.
///
/// Walks the blocks in order. Each transaction is predicted by what was learned from the ones
/// before it, executed, compared, and only then learned from. Functions that a prediction comes
/// upon and that were never called before are tried out, on the state before the block.
///
/// Precision is the share of the predicted locations that were accessed, recall the share of the
/// accessed ones that were predicted. "writes" is the recall of written slots. "seen" are the
/// transactions whose function of the same code was called twice or more before.
#[derive(Clone, Debug, Args)]
#[command(after_help = PREDICT_HELP)]
pub(crate) struct PredictArgs {
    /// Archive directories (with blocks/), or directories of single blocks [default: the embedded
    /// sample]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Only these blocks: numbers and inclusive ranges
    #[arg(short, long, value_name = "LIST")]
    pub(crate) blocks: Option<BlockList>,

    /// How to print the results
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// What was learned before, and what is learned now: read at the start, written at the end
    #[arg(short, long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,

    /// Chain rules (geth genesis JSON) of blocks that are not Ethereum mainnet's
    #[arg(short, long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
}

/// Which engine executes the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Both, and compare them
    Both,
    /// Only the parallel engine
    Parallel,
    /// Only alloy-evm's sequential executor
    Sequential,
}

impl Engine {
    pub(crate) const fn runs_sequential(self) -> bool {
        matches!(self, Self::Both | Self::Sequential)
    }

    pub(crate) const fn runs_parallel(self) -> bool {
        matches!(self, Self::Both | Self::Parallel)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Parallel => "parallel",
            Self::Sequential => "sequential",
        }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    Table,
    /// One JSON object a line for each result, then a summary
    Json,
}

const PREDICT_HELP: &str = "\
Examples:
  multilane predict data/mainnet                        what is foreseen, and what is missed
  multilane predict data/mainnet --profile learned      the same, and keep what was learned
  multilane predict data/mainnet -f json | tail -1      figures for scripts

Times are those of predicting a block at once, by what was learned from the blocks before: they are
zero where nothing was. ns_per_tx is over all transactions; ns_per_transfer, ns_per_templated and
ns_per_walked over those without calldata, with templates for all that they do, and those of which
code had to be walked through, because no template knows the way that they go. ns_per_call divides
the second by the calls that they make, inner ones and their own.

Exit status:
  0    all blocks were walked
  2    bad usage, or a block that cannot be read or executed
  130  interrupted by Ctrl-C; what was finished by then is printed";

const REPLAY_SHORT_HELP: &str = "\
Examples:
  multilane replay                                      the embedded sample
  multilane replay data/mainnet -t 8                    a whole archive on 8 threads
  multilane replay data/mainnet -b 19426586 -r 9 -v     one block, median of 9, with details
  multilane replay data/mainnet -f json | jq .checks    for scripts

Use --help for what is checked and for the exit status.";

const REPLAY_HELP: &str = "\
Examples:
  Replay the embedded sample:
      multilane replay
  Replay a whole archive on 8 threads:
      multilane replay data/mainnet --threads 8
  One block and a range of blocks, the median of 9 executions:
      multilane replay data/mainnet --blocks 19426586,12244000..12244010 --repeat 9
  A single block directory, with every check shown:
      multilane replay data/mainnet/blocks/19426586 --verbose
  The blocks that are slower in parallel:
      multilane replay data/mainnet --format json | jq 'select(.speedup < 1) | .block'
  Record what each block accesses, then replay without a conflict:
      multilane replay data/mainnet --save-access-lists lists
      multilane replay data/mainnet --access-lists lists

Exit status:
  0    every block verified
  1    a block does not verify or could not be executed
  2    bad usage, or files that cannot be read or written (also where other blocks failed)
  130  interrupted by Ctrl-C; what was finished by then is printed";

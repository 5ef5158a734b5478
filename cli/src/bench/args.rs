//! What a user can type after `multilane bench`.

use crate::args::{BlockList, Format};
use clap::{
    Args, Subcommand,
    builder::{PossibleValue, PossibleValuesParser},
};
use multilane_fixtures::workload::Workload;
use std::{num::NonZeroUsize, path::PathBuf};

/// Every workload whose contracts are there.
pub(crate) const ALL: &str = "all";

/// Measure what threads gain, beside honest baselines.
///
/// Each workload is a generated block. Four arms execute it in turn, in one run, over the same
/// state in memory; medians are reported.
///
///   bare        one revm instance, reused, on a warm in-memory database; neither receipts nor
///               state changes are gathered: the strongest simple thing
///   sequential  alloy-evm's block executor, with receipts and state changes
///   limit       each thread alone with its share of the block and a state of its own: the most
///               that this machine could give; only for workloads of independent transactions
///   parallel    Multilane
///
/// Before anything is timed, the parallel output is compared with the sequential one, at each
/// number of threads, and each transaction must succeed or fail as intended. Generating and
/// checking are not timed.
#[derive(Clone, Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = SHORT_HELP,
    after_long_help = LONG_HELP
)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,

    /// Workloads, or "all" [default: amm raw erc20]
    #[arg(value_name = "WORKLOAD", value_parser = workload_names(), hide_possible_values = true)]
    pub(crate) workloads: Vec<String>,

    /// List the workloads and leave
    #[arg(short, long)]
    pub(crate) list: bool,

    /// Transactions in each block [default: the workload's own number]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "gas")]
    pub(crate) txs: Option<NonZeroUsize>,

    /// Gas of each block, about
    #[arg(long, value_name = "G", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) gas: Option<u64>,

    /// Pools, for the workloads that share pools
    #[arg(long, value_name = "P")]
    pub(crate) pools: Option<NonZeroUsize>,

    /// Different senders, for the workloads that draw them
    #[arg(long, value_name = "T")]
    pub(crate) traders: Option<NonZeroUsize>,

    /// Exponent of the Zipf distribution of pools; 0 spreads them evenly
    #[arg(long, value_name = "S", value_parser = exponent)]
    pub(crate) zipf: Option<f64>,

    /// Probability that an account is one of the hot ones, 0 to 1, for the dependent workloads
    #[arg(long, value_name = "R", value_parser = probability)]
    pub(crate) hot_ratio: Option<f64>,

    /// Seed of whatever is drawn: the same seed gives the same block
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Blocks(BlocksArgs),
    Targets(TargetsArgs),
}

/// Measure real blocks: the same arms, without the limit.
///
/// Blocks are verified as `multilane replay` does it, and then measured. A block that does not
/// verify is reported and not measured.
#[derive(Clone, Debug, Args)]
#[command(after_help = BLOCKS_HELP)]
pub(crate) struct BlocksArgs {
    /// Archive directories (with blocks/), or directories of single blocks
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// Only these blocks: numbers and inclusive ranges, such as 19426586,12244000..12244010
    #[arg(short, long, value_name = "LIST")]
    pub(crate) blocks: Option<BlockList>,

    /// Chain rules (geth genesis JSON) of blocks that are not Ethereum mainnet's
    #[arg(short, long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,

    /// Measure all of them as one big block
    ///
    /// All transactions, one block's after the other's, under the rules of the last block and on
    /// the state before the first one that needs an account. Those that are not valid there, for
    /// their nonce mostly, are left out; others may do something else than they did. What comes out
    /// is no block of the chain, but as large and as entangled as one could be.
    #[arg(long)]
    pub(crate) merged: bool,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Measure every performance target and judge it: met, missed or left out.
///
/// The targets are meant for 2 threads on a machine with 2 cores. Generated blocks, real blocks and
/// blocks that grow are measured like any other: checked first, arms in turn, medians. Where a
/// target is about several workloads, the worst one decides. What cannot be measured here (Uniswap
/// contracts that are not installed, no archive) is left out, and the row says so.
#[derive(Clone, Debug, Args)]
#[command(after_help = TARGETS_HELP)]
pub(crate) struct TargetsArgs {
    /// Archive of real blocks [default: ../shared/data/mainnet where that is there]
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,

    /// Worker threads
    #[arg(short, long, value_name = "N", default_value = "2")]
    pub(crate) threads: NonZeroUsize,

    /// Timed executions of each arm; the median decides
    #[arg(short, long, value_name = "K", default_value = "7")]
    pub(crate) repeat: NonZeroUsize,

    /// Transactions in each generated block, for a quick look [default: the workload's own number]
    ///
    /// The blocks that grow a hundredfold begin with as many, by default with 1,000.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) txs: Option<NonZeroUsize>,

    /// How to print the results
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// Show no progress
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say on standard error what is being done
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl TargetsArgs {
    /// The same in the words of the other forms.
    pub(crate) fn run_args(&self) -> RunArgs {
        RunArgs {
            threads: vec![self.threads],
            repeat: self.repeat,
            force_parallel: false,
            learn: false,
            format: self.format,
            report: None,
            quiet: self.quiet,
            verbose: self.verbose,
        }
    }
}

/// How to measure, and how to tell.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Numbers of worker threads, such as 1,2,4 [default: all cores]
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    pub(crate) threads: Vec<NonZeroUsize>,

    /// Timed executions of each arm; the median is reported
    #[arg(short, long, value_name = "K", default_value = "5")]
    pub(crate) repeat: NonZeroUsize,

    /// Use every worker even where the executor expects no gain from it
    #[arg(long)]
    pub(crate) force_parallel: bool,

    /// Also measure executors that learn what contracts access, on rows of their own
    ///
    /// One profile serves all blocks of the run. The check before the clock starts is what a block
    /// is learned from at first.
    #[arg(long, conflicts_with = "report")]
    pub(crate) learn: bool,

    /// How to print the results
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// Also write a report with charts, one self-contained HTML file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Show no progress
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say on standard error what is being done
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// The names that are accepted; clap finds the one that was meant.
fn workload_names() -> PossibleValuesParser {
    let workloads = Workload::all().iter();
    let names =
        workloads.map(|workload| PossibleValue::new(workload.name()).help(workload.summary()));
    names.chain([PossibleValue::new(ALL)]).collect::<Vec<_>>().into()
}

fn exponent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let is_usable = number.is_finite() && number >= 0.0;
    is_usable.then_some(number).ok_or_else(|| "must be 0 or more".to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=1.0).contains(&number).then_some(number).ok_or_else(|| "must be from 0 to 1".to_owned())
}

const SHORT_HELP: &str = "\
Examples:
  multilane bench                                       three workloads, on all cores
  multilane bench --list                                what workloads there are
  multilane bench amm --threads 1,2,4 --report amm.html     scaling, with charts
  multilane bench all --learn                           with and without learned predictions
  multilane bench blocks data/mainnet                   real blocks
  multilane bench targets                               which performance targets are met

Use --help for the arms and the exit status.";

const LONG_HELP: &str = "\
Examples:
  Three workloads on all cores:
      multilane bench
  What workloads there are:
      multilane bench --list
  Scaling over threads, with charts:
      multilane bench amm --threads 1,2,4,8 --report amm.html
  Swaps that crowd in few of many pools:
      multilane bench amm --pools 64 --zipf 1.1 --seed 7
  What learned predictions gain or cost, row by row:
      multilane bench all --learn
  Everything, for scripts:
      multilane bench all --format json
  Real blocks, the same arms:
      multilane bench blocks data/mainnet
  Every performance target with its verdict:
      multilane bench targets --archive data/mainnet

Exit status:
  0    everything was measured
  1    an output is not the sequential one, or a block could not be executed
  2    bad usage, contracts that are not installed, or input that cannot be read
  130  interrupted by Ctrl-C; what was finished by then is printed";

const BLOCKS_HELP: &str = "\
Examples:
  multilane bench blocks data/mainnet
  multilane bench blocks data/mainnet --blocks 19426586 --threads 1,2,4 --repeat 21
  multilane bench blocks data/mainnet --report mainnet.html
  multilane bench blocks data/mainnet --blocks 17000000..25000000 --merged --threads 1,2,4,8

Paths and the exit status are those of `multilane replay`.";

const TARGETS_HELP: &str = "\
Examples:
  multilane bench targets
  multilane bench targets --archive data/mainnet --repeat 11
  multilane bench targets --format json | jq 'select(.verdict == \"missed\")'

As JSON, every block and every target is a line of its own, and the summary is the last one.

Exit status:
  0    everything that is there was measured, also where targets are missed
  1    an output is not the sequential one, or a block could not be executed
  2    bad usage, or input that cannot be read
  130  interrupted by Ctrl-C; the targets that were measured by then are judged";

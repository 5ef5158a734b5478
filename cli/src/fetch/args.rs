//! What a user can type after `multilane fetch`.

use clap::{Args, ValueEnum};
use std::{fmt, num::NonZeroUsize, path::PathBuf, str::FromStr};

/// Download blocks with the state that they read, ready to replay
///
/// Each block is checked on arrival against its own header: hash, transactions root, senders. Then
/// it is executed, which finds out what it reads; its gas and its receipts must be the header's.
/// What was read is written beside the block, so that it replays without a node.
///
/// The node must have the state of the parent of each block: recent blocks from any node, older
/// ones from an archive node. `debug_traceBlockByNumber` saves thousands of requests where the node
/// offers it; without it the state is asked for piece by piece.
#[derive(Clone, Debug, Args)]
#[command(after_help = FETCH_HELP)]
pub(crate) struct FetchArgs {
    /// JSON-RPC endpoint of an execution node, over http or https
    #[arg(short, long, value_name = "URL")]
    pub(crate) rpc: String,

    /// Blocks to fetch: numbers and inclusive ranges, such as 19426586,20000000..20000009 or
    /// 20000000..latest
    #[arg(short, long, value_name = "LIST")]
    pub(crate) blocks: Selection,

    /// Archive directory to write to; made if it is not there, extended if it is
    #[arg(short, long, value_name = "DIR")]
    pub(crate) to: PathBuf,

    /// Chain rules (geth genesis JSON) of a chain other than mainnet, Sepolia, Holesky and Hoodi
    #[arg(short, long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,

    /// Fetch blocks again that the archive has already
    #[arg(long)]
    pub(crate) force: bool,

    /// Blocks to fetch at the same time
    #[arg(short, long, value_name = "N", default_value = "4")]
    pub(crate) concurrency: NonZeroUsize,

    /// Seconds to wait for the answer to one request
    #[arg(long, value_name = "SECONDS", default_value = "60",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// How often to repeat a request that the network or the node's rate limit refused
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) retries: u32,

    /// How to print the results
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = FetchFormat::Table)]
    pub(crate) format: FetchFormat,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FetchFormat {
    /// One line for people
    Table,
    /// One JSON object a line: each block, then a summary
    Json,
}

const FETCH_HELP: &str = "\
Examples:
  multilane fetch --rpc http://localhost:8545 --blocks 20000000..20000009 --to blocks
  multilane fetch --rpc http://localhost:8545 --blocks latest --to blocks
  multilane replay blocks

An interrupted run is resumed by starting it again: blocks that are there are not fetched twice.

Exit status:
  0    every block is in the archive
  1    a block does not agree with its own header
  2    bad usage, or something that the node or the disk refused
  130  interrupted by Ctrl-C; the blocks that were finished are in the archive";

/// Blocks to fetch, in the user's own parts. Some of them may depend on the head of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection(Vec<(Bound, Bound)>);

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Number(u64),
    Latest,
}

/// A run longer than this is a typing error: it would take weeks and terabytes.
const BLOCKS_MAX: u64 = 1_000_000;

impl Selection {
    /// Whether a part depends on the head of the chain.
    pub(crate) fn needs_latest(&self) -> bool {
        self.0.iter().any(|(first, last)| [first, last].contains(&&Bound::Latest))
    }

    /// The numbers that the parts select, ascending and once each. `latest` is the number of the
    /// head, where [`needs_latest`](Self::needs_latest).
    ///
    /// # Errors
    ///
    /// A part that ends before it starts, selects the genesis block, or is absurdly long.
    pub(crate) fn resolve(&self, latest: u64) -> Result<Vec<u64>, SelectionError> {
        let number = |bound| match bound {
            Bound::Number(number) => number,
            Bound::Latest => latest,
        };
        let mut numbers = Vec::new();
        for &(first, last) in &self.0 {
            let (first, last) = (number(first), number(last));
            let refuse = |cause| SelectionError { part: format!("{first}..{last}"), cause };
            if first > last {
                return Err(refuse("the range ends before it starts"));
            }
            if first == 0 {
                return Err(refuse("block 0 is the genesis: there is nothing in it to execute"));
            }
            if last - first >= BLOCKS_MAX {
                return Err(refuse("more than a million blocks: fetch them in parts"));
            }
            numbers.extend(first..=last);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(list: &str) -> Result<Self, SelectionError> {
        list.split(',').map(|part| parse_part(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_part(part: &str) -> Result<(Bound, Bound), SelectionError> {
    let bound = |text: &str| match text.trim() {
        "latest" => Ok(Bound::Latest),
        number => number.parse().map(Bound::Number).map_err(|_| SelectionError {
            part: part.to_owned(),
            cause: "not a block number, nor 'latest', nor a range such as 100..110",
        }),
    };
    match part.split_once("..") {
        // `a..=b` is what Rust programmers type.
        Some((first, last)) => Ok((bound(first)?, bound(last.strip_prefix('=').unwrap_or(last))?)),
        None => bound(part).map(|bound| (bound, bound)),
    }
}

/// A part of the list that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectionError {
    part: String,
    cause: &'static str,
}

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part '{}': {}", self.part, self.cause)
    }
}

impl std::error::Error for SelectionError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(list: &str, latest: u64) -> Result<Vec<u64>, String> {
        list.parse::<Selection>()
            .and_then(|selection| selection.resolve(latest))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_ranges_and_the_head() {
        assert_eq!(resolve("7", 0).unwrap(), [7]);
        assert_eq!(resolve("12..14, 3,13..=15", 0).unwrap(), [3, 12, 13, 14, 15]);
        assert_eq!(resolve("98..latest,latest", 100).unwrap(), [98, 99, 100]);
        assert!("98..latest".parse::<Selection>().unwrap().needs_latest());
        assert!(!"98..99".parse::<Selection>().unwrap().needs_latest());
    }

    #[test]
    fn errors_name_the_part() {
        assert!(resolve("7,x", 0).unwrap_err().starts_with("part 'x': not a block number"));
        assert!(resolve("1,,2", 0).unwrap_err().starts_with("part '': not a block number"));
        assert_eq!(
            resolve("9..latest", 3).unwrap_err(),
            "part '9..3': the range ends before it starts"
        );
        assert!(resolve("0..2", 0).unwrap_err().contains("genesis"));
        assert!(resolve("1..99999999", 0).unwrap_err().contains("in parts"));
        assert!(resolve(&format!("1..{}", u64::MAX), 0).unwrap_err().contains("in parts"));
    }
}

//! `--blocks 19426586,12244000..12244010`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A selection of block numbers, in the user's own parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockList(Vec<RangeInclusive<u64>>);

impl BlockList {
    /// Whether the selection contains a block number.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|part| part.contains(&number))
    }

    /// The first part that selects none of these blocks, as the user could have written it.
    pub(crate) fn unmatched(&self, numbers: &[u64]) -> Option<String> {
        let part =
            self.0.iter().find(|part| !numbers.iter().any(|number| part.contains(number)))?;
        Some(if part.start() == part.end() {
            part.start().to_string()
        } else {
            format!("{}..{}", part.start(), part.end())
        })
    }
}

impl FromStr for BlockList {
    type Err = BlockListError;

    fn from_str(list: &str) -> Result<Self, BlockListError> {
        list.split(',').map(|part| parse_part(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_part(part: &str) -> Result<RangeInclusive<u64>, BlockListError> {
    let error = |cause: String| BlockListError { part: part.to_owned(), cause };
    let number = |text: &str| {
        text.trim().parse().map_err(|_| error(format!("'{}' is not a block number", text.trim())))
    };
    let Some((first, last)) = part.split_once("..") else {
        let number = number(part)?;
        return Ok(number..=number);
    };
    // `a..=b` is what Rust programmers type.
    let (first, last) = (number(first)?, number(last.strip_prefix('=').unwrap_or(last))?);
    if first > last {
        return Err(error("the range ends before it starts".into()));
    }
    Ok(first..=last)
}

/// A part of the list that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockListError {
    part: String,
    cause: String,
}

impl fmt::Display for BlockListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part '{}': {}", self.part, self.cause)
    }
}

impl std::error::Error for BlockListError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> BlockList {
        text.parse().unwrap()
    }

    fn error(text: &str) -> String {
        text.parse::<BlockList>().unwrap_err().to_string()
    }

    #[test]
    fn numbers_and_inclusive_ranges() {
        let blocks = list("7, 10..12,20..=21");
        let selected: Vec<u64> = (0..30).filter(|&number| blocks.contains(number)).collect();
        assert_eq!(selected, [7, 10, 11, 12, 20, 21]);
    }

    #[test]
    fn errors_name_the_part() {
        assert_eq!(error("7,x"), "part 'x': 'x' is not a block number");
        assert_eq!(error("7,1..b"), "part '1..b': 'b' is not a block number");
        assert_eq!(error("9..3"), "part '9..3': the range ends before it starts");
        assert_eq!(error("1,,2"), "part '': '' is not a block number");
        assert_eq!(error("-1"), "part '-1': '-1' is not a block number");
    }

    #[test]
    fn a_part_that_selects_nothing_is_found() {
        assert_eq!(list("1,2..4").unmatched(&[1, 3]), None);
        assert_eq!(list("1,2..4").unmatched(&[1, 5]), Some("2..4".into()));
        assert_eq!(list("1,2..4").unmatched(&[2]), Some("1".into()));
    }
}

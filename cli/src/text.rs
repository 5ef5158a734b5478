//! How tables for people are written: columns, numbers, and totals.

use crate::speedups::Speedups;
use std::{
    io::{self, Write},
    time::Duration,
};

/// The lines of a table whose first row is its header: the columns of that name to the left,
/// because they are words, all others to the right.
pub(crate) fn aligned<'a>(
    rows: &'a [Vec<String>],
    words: &'a [&'a str],
) -> impl Iterator<Item = String> + 'a {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter().map(move |row| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&if words.contains(&rows[0][column].as_str()) {
                format!("{cell:<width$}  ")
            } else {
                format!("{cell:>width$}  ")
            });
        }
        line.truncate(line.trim_end().len());
        line
    })
}

/// Prints the speedups of a group of blocks in one line, or nothing where there are none.
pub(crate) fn print_speedups(
    out: &mut impl Write,
    group: &str,
    speedups: &Speedups,
) -> io::Result<()> {
    let (Some(total), Some(mean), Some((worst, worst_block)), Some((best, best_block))) =
        (speedups.total(), speedups.mean(), speedups.worst, speedups.best)
    else {
        return Ok(());
    };
    writeln!(
        out,
        "{group} ({}): total {}, mean {}, worst {} (block {worst_block}), \
         best {} (block {best_block})",
        speedups.blocks,
        times(total),
        times(mean),
        times(worst),
        times(best),
    )
}

/// A value, or a dash where there is none.
pub(crate) fn show(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// A time in milliseconds.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// How many times faster.
pub(crate) fn times(speedup: f64) -> String {
    format!("{speedup:.2}x")
}

/// A share of one as percents.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let examples = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in examples {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let rows = [["name", "ms"], ["a", "1.25"], ["longer", "10.00"]]
            .map(|row| row.map(str::to_owned).to_vec());
        let lines: Vec<_> = aligned(&rows, &["name"]).collect();
        assert_eq!(lines, ["name       ms", "a        1.25", "longer  10.00"]);
    }
}

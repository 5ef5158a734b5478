//! All arms of a block against the clock, in turn.

use super::{
    arms::{Arm, Arms},
    case::State,
    figures::{Cost, Figures},
    paired::Paired,
    process::Metered,
};
use crate::{
    interrupt::Interrupt,
    timing::{Timed, median},
};
use multilane::ExecutionStats;
use std::{thread, time::Duration};

/// Time for an arm's threads to go back to sleep, and for the allocator to give memory back, before
/// the next arm starts.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs every arm `repeat` times in [`rounds`] and gives the medians, for each parallel engine.
///
/// # Errors
///
/// If an arm cannot execute the block.
pub(crate) fn measure<DB: State>(
    arms: &Arms<'_, DB>,
    gas: u64,
    repeat: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Figures>> {
    let list = arms.list();
    let runs = rounds(list.len(), repeat, interrupt, |position| arms.run(list[position]))?;
    let speedup_plain = |index: usize| {
        let times = |index| {
            let at = list.iter().position(|arm| *arm == Arm::Parallel(index))?;
            Some(runs[at].iter().map(|run| run.time))
        };
        Paired::of(times(arms.plain(index)?)?.zip(times(index)?))
    };
    let speedups_plain: Vec<_> = (0..arms.engines()).map(speedup_plain).collect();
    let costs: Vec<_> = list.into_iter().zip(runs.into_iter().map(cost)).collect();
    let of = |arm: Arm| {
        let (_, cost) = costs.iter().find(|(other, _)| *other == arm)?;
        cost.as_ref()
    };
    let figures = |index: usize| {
        let (parallel, stats) = of(Arm::Parallel(index))?;
        Some(Figures {
            txs: arms.transactions(),
            gas,
            threads: arms.threads(index),
            learns: arms.learns(index),
            bare: of(Arm::Bare)?.0.time,
            sequential: of(Arm::Sequential)?.0,
            limit: of(Arm::Limit(index)).map(|(cost, _)| cost.time),
            parallel: *parallel,
            speedup_plain: speedups_plain[index],
            stats: stats.clone()?,
        })
    };
    Ok((0..arms.engines()).map_while(figures).collect())
}

/// Runs each of `count` things once a round, for `repeat` rounds, and gives the runs of each.
///
/// They take turns, so that a change of the machine's speed meets all of them, in an order that
/// changes from round to round, so that none always follows the same other one. Ctrl-C ends it after
/// the round that it meets, the first one at the earliest.
///
/// # Errors
///
/// The first error of a run.
pub(crate) fn rounds<R, E>(
    count: usize,
    repeat: usize,
    interrupt: &Interrupt,
    mut run: impl FnMut(usize) -> Result<R, E>,
) -> Result<Vec<Vec<R>>, E> {
    let mut runs: Vec<Vec<R>> = (0..count).map(|_| Vec::with_capacity(repeat.min(64))).collect();
    for round in 0..repeat {
        for position in order(count, round) {
            thread::sleep(PAUSE);
            runs[position].push(run(position)?);
        }
        if interrupt.requested() {
            break;
        }
    }
    Ok(runs)
}

type Run = Metered<Option<ExecutionStats>>;

/// The medians of the runs of one arm, its peak of memory, and the statistics of its median run, in
/// which the times of planning and learning are medians as well: they are small, and to compare them
/// takes more than one run.
fn cost(runs: Vec<Run>) -> Option<(Cost, Option<ExecutionStats>)> {
    let mut cpu: Vec<_> = Vec::with_capacity(runs.len());
    cpu.extend(runs.iter().filter_map(|run| run.cpu).map(|time| Timed { time, value: () }));
    let peak_bytes = runs.iter().filter_map(|run| run.peak_bytes).max();
    let of_stage = |time: fn(&ExecutionStats) -> Duration| {
        let stats = runs.iter().filter_map(|run| run.value.as_ref());
        let times = stats.map(|stats| Timed { time: time(stats), value: () });
        median(times.collect()).map(|run| run.time)
    };
    let (plan, learn) = (of_stage(|stats| stats.plan_time), of_stage(|stats| stats.learn_time));
    let times = runs.into_iter().map(|run| Timed { time: run.time, value: run.value });
    let mut middle = median(times.collect())?;
    if let (Some(stats), Some(plan), Some(learn)) = (&mut middle.value, plan, learn) {
        (stats.plan_time, stats.learn_time) = (plan, learn);
    }
    let cpu = median(cpu).map(|run| run.time);
    Some((Cost { time: middle.time, cpu, peak_bytes }, middle.value))
}

/// The order of `count` arms in a round: each round starts one arm later, and every other round goes
/// backwards.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let is_backwards = !round.is_multiple_of(2);
    (0..count).map(move |step| {
        let step = if is_backwards { count - 1 - step } else { step };
        (step + round / 2) % count
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_arm_runs_once_a_round() {
        for count in 1..6 {
            for round in 0..12 {
                let arms: BTreeSet<_> = order(count, round).collect();
                assert_eq!(arms.len(), count, "{count} arms, round {round}");
            }
        }
    }

    #[test]
    fn no_arm_always_follows_the_same_one() {
        let followed: BTreeSet<_> = (0..5)
            .flat_map(|round| {
                let arms: Vec<_> = order(4, round).collect();
                arms.windows(2).filter(|pair| pair[1] == 3).map(|pair| pair[0]).collect::<Vec<_>>()
            })
            .collect();
        assert!(followed.len() > 1, "{followed:?}");
        let first: BTreeSet<_> = (0..5).filter_map(|round| order(4, round).next()).collect();
        assert!(first.len() > 2, "{first:?}");
    }
}

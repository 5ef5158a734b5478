//! Ethereum's execution-spec tests, block by block, through both engines.
//!
//! Every block of a test is decoded, judged by the block rules, executed sequentially and in
//! parallel, verified against its header (state root included) and committed. A block that a test
//! declares invalid must be refused for the declared reason.
//!
//! The tests lie in `../shared` and are not part of the repository. Where they are absent, the
//! tests here say so and pass, unless `CI=true`.

mod archive;
mod devnet;
mod drafts;
mod expectation;
mod fixture;
mod import;
mod limitations;
mod network;
mod runner;
mod state;

use fixture::SpecTest;
use import::Engines;
use limitations::{EMPTY_SYSTEM_CONTRACT, STORAGE_COLLISION, SYSTEM_CALL_GAS};
use runner::{Expected, Tally};
use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

/// Runs this environment variable's archive tests: `1` with both engines, `sequential` with the
/// oracle alone.
const ALL_SPEC_TESTS: &str = "MULTILANE_ALL_SPEC_TESTS";

/// The tests for Amsterdam, as a devnet had it.
const AMSTERDAM: &str = "eest_bal_v5.7.0_amsterdam_blockchain_tests.tar.zst";

/// The folder of spec tests, or `None` after saying what is left out.
fn spec_tests(file: &str) -> Option<PathBuf> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/spec-tests").join(file);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{} is absent, and CI must not leave it out",
        path.display()
    );
    eprintln!("left out: {} is absent", path.display());
    None
}

fn run_multi_transaction_tests(file: &str, expected: usize) {
    let Some(path) = spec_tests(file) else { return };
    let tests = archive::read_json_gz(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(tests.len(), expected, "tests in {file}");
    let judge = |engines: &Engines, (name, test): (&String, &SpecTest)| {
        Tally::default().with(runner::judge(name, test, engines))
    };
    let mut tally = on_all_cores(tests.iter(), Engines::both, judge);
    tally.assert_passed(file);
    tally.assert_counts(file, &Expected { passed: expected, limited: &[] });
}

#[test]
fn multi_transaction_tests_of_the_stable_release() {
    run_multi_transaction_tests("multi_tx_eest_v5.4.0_stable.json.gz", 294);
}

#[test]
fn multi_transaction_tests_of_the_prague_and_osaka_devnets() {
    run_multi_transaction_tests("multi_tx_eest_devnet_prague_osaka.json.gz", 489);
}

/// All 22,324 blockchain tests of the stable release. It takes minutes, so it runs only where
/// `MULTILANE_ALL_SPEC_TESTS` is `1`, or `sequential` for the oracle alone.
#[test]
fn every_blockchain_test_of_the_stable_release() {
    let Some(engines) = engines_for_all_tests() else { return };
    let expected = Expected {
        passed: 22_252,
        limited: &[(STORAGE_COLLISION, 64), (EMPTY_SYSTEM_CONTRACT, 4), (SYSTEM_CALL_GAS, 4)],
    };
    run_archive("eest_v5.4.0_blockchain_tests.tar.zst", engines, |_| true, expected);
}

/// The tests of block access lists (EIP-7928) on a devnet of Amsterdam.
#[test]
fn tests_of_block_access_lists() {
    let expected = Expected {
        passed: 566,
        limited: &[
            (drafts::AUTHORIZATIONS, 15),
            (drafts::CREATIONS, 2),
            (drafts::SELF_DESTRUCTS, 1),
            (drafts::CODE_READS, 10),
            (drafts::CREATE_INSTRUCTIONS, 5),
            (drafts::FAILED_FRAMES, 1),
        ],
    };
    run_archive(AMSTERDAM, Engines::both, |file| file.contains("/eip7928_"), expected);
}

/// All 9,320 blockchain tests for Amsterdam, under the same condition as those of the stable release.
#[test]
fn every_blockchain_test_for_amsterdam() {
    let Some(engines) = engines_for_all_tests() else { return };
    let expected = Expected {
        passed: 7_268,
        limited: &[
            (drafts::AUTHORIZATIONS, 459),
            (drafts::CREATIONS, 765),
            (drafts::SELF_DESTRUCTS, 73),
            (drafts::CODE_READS, 228),
            (drafts::CREATE_INSTRUCTIONS, 229),
            (drafts::FAILED_FRAMES, 286),
            (STORAGE_COLLISION, 10),
            (SYSTEM_CALL_GAS, 2),
        ],
    };
    run_archive(AMSTERDAM, engines, |_| true, expected);
}

/// What [`ALL_SPEC_TESTS`] asks for, or `None` after saying what is left out.
fn engines_for_all_tests() -> Option<fn() -> Engines> {
    let Ok(choice) = std::env::var(ALL_SPEC_TESTS) else {
        eprintln!("left out: every blockchain test; set {ALL_SPEC_TESTS}=1 to run them");
        return None;
    };
    match choice.as_str() {
        "1" => Some(Engines::both),
        "sequential" => Some(Engines::sequential),
        other => panic!("{ALL_SPEC_TESTS} is \"{other}\", expected 1 or sequential"),
    }
}

/// Runs the tests of an archive's files that `select` accepts by their names.
fn run_archive(
    archive: &str,
    engines: fn() -> Engines,
    select: fn(&str) -> bool,
    expected: Expected,
) {
    let Some(path) = spec_tests(archive) else { return };
    let judge = |engines: &Engines, (file, content): (String, Vec<u8>)| {
        let tests = fixture::parse(&content)
            .unwrap_or_else(|error| panic!("{file} cannot be read: {error}"));
        tests.iter().fold(Tally::default(), |tally, (name, test)| {
            tally.with(runner::judge(name, test, engines))
        })
    };
    let consume = |files: std::sync::mpsc::IntoIter<(String, Vec<u8>)>| {
        on_all_cores(files.filter(|(file, _)| select(file)), engines, judge)
    };
    let mut tally =
        archive::stream_tar_zst(&path, consume).unwrap_or_else(|error| panic!("{error}"));
    tally.assert_passed(archive);
    tally.assert_counts(archive, &expected);
}

/// Judges items on as many threads as there are cores, each with its own engines.
///
/// Not on rayon's pool: a pool's thread that waits for an executor's own pool takes up further
/// items of its own in the meantime, one on top of the other, until its stack is full.
fn on_all_cores<T: Send>(
    items: impl Iterator<Item = T> + Send,
    engines: impl Fn() -> Engines + Sync,
    judge: impl Fn(&Engines, T) -> Tally + Sync,
) -> Tally {
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let engines = engines();
                    let mut tally = Tally::default();
                    while let Some(item) = next() {
                        tally = tally.merge(judge(&engines, item));
                    }
                    tally
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .fold(Tally::default(), Tally::merge)
    })
}

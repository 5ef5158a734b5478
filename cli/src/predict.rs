//! `multilane predict`: how well does the analyzer foresee what transactions access?
//!
//! Walks blocks in order. Each transaction is executed (sequentially), predicted, compared, and only
//! then learned from. Predictions are timed apart, a whole block of them at once as an executor asks
//! for them. [`tally`] counts, [`pace`] tells how long it took, [`misses`] remembers what was not
//! foreseen, and [`report`] prints.

mod misses;
mod pace;
mod report;
mod tally;
mod truth;

use crate::{
    args::{Format, PredictArgs},
    chain,
    exit::Exit,
    interrupt::Interrupt,
    profile_file,
    source::{FoundBlock, Source},
};
use alloy_evm::EvmEnv;
use alloy_primitives::B256;
use misses::Misses;
use multilane::{
    Shared, StateSource,
    analyzer::{AccessPrediction, Analyzer, LearnedPrediction, Profile},
    conflict_graph::ConflictGraph,
    sequential,
    state::TxIndex,
};
use multilane_fixtures::archive::ArchivedBlock;
use pace::Paces;
use report::{BlockEvidence, Evidence};
use revm::{context::TxEnv, database::WrapDatabaseRef, state::EvmState};
use std::{
    collections::HashMap,
    hint::black_box,
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Instant,
};
use tally::Tally;
use truth::Truth;

/// Whether payments commute: the analyzer then leaves them alone, as the executor does.
const BALANCES_COMMUTE: bool = true;

/// Runs the command.
pub(crate) fn run(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    let chain = args.genesis.as_deref().map(chain::read_genesis).transpose()?;
    let source = Source::open(&args.paths, args.blocks.as_ref(), chain.as_ref())?;
    let interrupt = Interrupt::listen()?;
    let profile = match &args.profile {
        Some(path) => profile_file::load(path)?,
        None => Profile::new(),
    };
    let mut walk = Walk { profile, seen: HashMap::new() };
    let mut evidence = Evidence::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut exit = Exit::Success;
    for found in source.blocks() {
        if interrupt.requested() {
            exit = Exit::Interrupted;
            break;
        }
        match walk.block(&found, &mut evidence.misses) {
            Ok(block) => {
                if args.format == Format::Json {
                    report::print_block_json(&mut out, &block)?;
                }
                evidence.add(block);
            }
            Err(error) => {
                eprintln!("block {} ({}): {error:#}", found.number(), found.origin());
                exit = Exit::Unusable;
            }
        }
    }
    evidence.templates = walk.profile.len();
    evidence.profile_bytes = walk.profile.size();
    match args.format {
        Format::Table => report::print_table(&mut out, &evidence)?,
        Format::Json => report::print_summary_json(&mut out, &evidence)?,
    }
    out.flush()?;
    if let Some(path) = &args.profile {
        profile_file::save(path, &walk.profile)?;
    }
    Ok(exit.into())
}

/// What is carried from block to block.
struct Walk {
    profile: Profile,
    /// How often a function of a code was called before.
    seen: HashMap<(B256, Option<[u8; 4]>), usize>,
}

impl Walk {
    fn block(
        &mut self,
        found: &FoundBlock<'_>,
        misses: &mut Misses,
    ) -> anyhow::Result<BlockEvidence> {
        let ArchivedBlock { chain, input, prestate, .. } = found.load()?;
        let env = chain.evm_env(&input.header);
        let transactions: Vec<TxEnv> = input
            .transactions
            .iter()
            .map(|tx| alloy_evm::FromRecoveredTx::from_recovered_tx(tx.inner(), tx.signer()))
            .collect();
        let mut changes: Vec<EvmState> = Vec::with_capacity(transactions.len());
        sequential::execute_block_observed(
            &chain,
            &input,
            WrapDatabaseRef(&prestate),
            |_, state| changes.push(state.clone()),
        )?;
        // Once more for the time: the first execution may have to wait for what is made once in a
        // process, such as the setup of KZG proofs, which takes seconds.
        let start = Instant::now();
        sequential::execute_block(&chain, &input, WrapDatabaseRef(&prestate))?;
        let sequential_time = start.elapsed();

        let source = Shared(&prestate);
        let analyzer = Analyzer::new(&transactions, BALANCES_COMMUTE);
        let mut block = BlockEvidence {
            number: found.number(),
            paces: self.time_predictions(&env, &source, &transactions),
            sequential_time,
            ..BlockEvidence::default()
        };
        let mut predictor = self.profile.predictor(&env, &source).walking_always();
        let mut predictions = Vec::with_capacity(transactions.len());
        let mut truths = Vec::with_capacity(transactions.len());
        for (index, (tx, changes)) in transactions.iter().zip(&changes).enumerate() {
            let learned = predictor.predict(tx);
            predictions.push(predict(&analyzer, index, tx, learned.as_ref()));

            let code = predictor.called_code(tx);
            let truth = Truth::of(changes, env.block_env.beneficiary);
            let mut tally = Tally { txs: 1, ..Tally::default() };
            if let Some(code) = code {
                tally.calls = 1;
                let seen = self.seen.entry((code, tx.data.first_chunk().copied())).or_default();
                tally.compare(learned.as_ref(), &truth);
                block.all.add(&tally);
                if *seen >= 2 {
                    block.seen.add(&tally);
                    misses.note(tx, code, learned.as_ref(), &truth);
                }
                *seen += 1;
            } else {
                block.all.add(&tally);
            }
            truths.push(truth.as_prediction());
            if code.is_some() && self.profile.review(learned.as_ref(), changes) {
                let start = Instant::now();
                self.profile.learn(&env, tx, changes);
                block.learn_time += start.elapsed();
            }
        }
        let [predicted, real] =
            [&predictions, &truths].map(|accesses| ConflictGraph::new(accesses));
        block.conflicts.compare(&predicted, &real);
        Ok(block)
    }

    /// How long predictions take where they are of use: before the block is executed, one after the
    /// other, by what was learned from the blocks before.
    fn time_predictions(
        &self,
        env: &EvmEnv,
        source: &impl StateSource,
        transactions: &[TxEnv],
    ) -> Paces {
        let start = Instant::now();
        let analyzer = Analyzer::new(transactions, BALANCES_COMMUTE);
        let mut predictor = self.profile.predictor(env, source).walking_always();
        let mut paces = Paces::after(start.elapsed());
        for (index, tx) in transactions.iter().enumerate() {
            let start = Instant::now();
            let learned = predictor.predict(tx);
            black_box(predict(&analyzer, index, tx, learned.as_ref()));
            paces.note(tx, learned.as_ref(), start.elapsed());
        }
        paces
    }
}

/// What a transaction is expected to access, from what was learned and from what it says itself.
fn predict(
    analyzer: &Analyzer,
    index: usize,
    tx: &TxEnv,
    learned: Option<&LearnedPrediction>,
) -> AccessPrediction {
    let index = TxIndex::new(index);
    match learned {
        Some(learned) => analyzer.predict_learned(index, tx, learned),
        None => analyzer.predict(index, tx),
    }
}

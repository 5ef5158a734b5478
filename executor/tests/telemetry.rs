//! What observers hear of a block: spans and an event by `tracing`, and, with the feature
//! `metrics`, figures that are those of the returned statistics.

use multilane::{ExecutionStats, ExecutorConfig, ParallelExecutor, Shared, analyzer::Profile};
use multilane_fixtures::workload::{Workload, WorkloadSettings};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// One test at a time: whether anybody listens at a place in the code is remembered by `tracing` for
/// the whole process, and may be asked by a thread of a test without a subscriber.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block on three workers.
fn execute() -> ExecutionStats {
    execute_by(|config| ParallelExecutor::new(config).unwrap())
}

/// The same, by an executor that learns from it.
fn execute_and_learn() -> ExecutionStats {
    let profile = Arc::new(Profile::new());
    execute_by(|config| ParallelExecutor::new(config).unwrap().with_profile(profile))
}

fn execute_by(executor: impl FnOnce(ExecutorConfig) -> ParallelExecutor) -> ExecutionStats {
    let mut settings = WorkloadSettings::default();
    settings.transactions = Some(400);
    let workload = Workload::by_name("mint").unwrap().generate(&settings).unwrap();
    let config = ExecutorConfig::new().with_threads(3).with_allow_sequential(false);
    let source = Shared(&workload.prestate);
    executor(config).execute_block(&workload.chain, &workload.block, &source).unwrap().1
}

/// Notes what it is told, one line each.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn id_of(metadata: &Metadata<'_>) -> Id {
        Id::from_u64(metadata.name().bytes().map(u64::from).sum())
    }
}

/// Fields as `name=value`.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("multilane::")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let (metadata, mut fields) = (span.metadata(), Fields::default());
        span.record(&mut fields);
        self.note(format!("{} {}{}", metadata.target(), metadata.name(), fields.0));
        Self::id_of(metadata)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.note(format!("{}{}", event.metadata().target(), fields.0));
    }

    fn enter(&self, _: &Id) {
        self.note("enter".into());
    }

    fn exit(&self, _: &Id) {
        self.note("exit".into());
    }
}

#[test]
fn a_subscriber_sees_the_block_and_its_stages() {
    let _alone = alone();
    let notes = Notes::default();
    let stats = tracing::subscriber::with_default(notes.clone(), execute);
    let notes = notes.0.lock().unwrap();
    let start: Vec<_> = notes.iter().take(2).map(String::as_str).collect();
    assert_eq!(
        start,
        ["multilane::block block door=\"execute_block\" number=1000 transactions=400", "enter"]
    );
    let stages: Vec<_> =
        notes.iter().filter_map(|line| line.strip_prefix("multilane::stage ")).collect();
    assert_eq!(stages, ["plan", "execute", "finish"]);
    assert_eq!(notes.iter().filter(|line| *line == "enter").count(), 4);
    assert_eq!(notes.iter().filter(|line| *line == "exit").count(), 4);
    let [.., event, end] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!(end, "exit");
    for phrase in [
        "multilane::block message=executed mode=\"parallel\" transactions=400",
        &format!(
            "executions={} put_off={} conflicts={}",
            stats.executions, stats.put_off, stats.conflicts
        ),
        &format!("finish_us={}", stats.finish_time.as_micros()),
    ] {
        assert!(event.contains(phrase), "{phrase} is not in {event}");
    }
    assert_eq!(stats.conflict_kinds.total(), stats.conflicts);
}

#[test]
fn a_subscriber_sees_what_it_takes_to_learn() {
    let _alone = alone();
    let notes = Notes::default();
    let stats = tracing::subscriber::with_default(notes.clone(), execute_and_learn);
    let notes = notes.0.lock().unwrap();
    let stages: Vec<_> =
        notes.iter().filter_map(|line| line.strip_prefix("multilane::stage ")).collect();
    assert_eq!(stages, ["plan", "execute", "finish", "learn"]);
    // It is a part of the finish, which ends after it.
    assert!(!stats.learn_time.is_zero() && stats.learn_time < stats.finish_time);
    let [.., event, _] = &notes[..] else { panic!("{notes:?}") };
    let phrase = format!("learn_us={}", stats.learn_time.as_micros());
    assert!(event.contains(&phrase), "{phrase} is not in {event}");
}

#[cfg(feature = "metrics")]
#[test]
fn a_recorder_gets_the_figures_of_the_statistics() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    use std::collections::BTreeMap;

    let _alone = alone();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let stats = metrics::with_local_recorder(&recorder, || {
        multilane::describe_metrics();
        execute_and_learn()
    });
    let figures: BTreeMap<String, Vec<f64>> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, description, value)| {
            assert!(description.is_some(), "{key:?} is described");
            let labels: String = key
                .key()
                .labels()
                .map(|label| format!(" {}={}", label.key(), label.value()))
                .collect();
            let values = match value {
                DebugValue::Counter(count) => vec![count as f64],
                DebugValue::Gauge(value) => vec![value.into_inner()],
                DebugValue::Histogram(values) => {
                    values.into_iter().map(|value| value.into_inner()).collect()
                }
            };
            (format!("{}{labels}", key.key().name()), values)
        })
        .collect();
    let kinds = stats.conflict_kinds;
    let expected = [
        ("multilane_blocks_total mode=parallel", 1.0),
        ("multilane_transactions_total", 400.0),
        ("multilane_executions_total", stats.executions as f64),
        ("multilane_put_off_total", stats.put_off as f64),
        ("multilane_conflicts_total kind=account", kinds.accounts as f64),
        ("multilane_conflicts_total kind=slot", kinds.slots as f64),
        ("multilane_conflicts_total kind=error", kinds.errors as f64),
        ("multilane_lanes", stats.lanes as f64),
        ("multilane_critical_path_gas", stats.critical_path_gas as f64),
        ("multilane_stage_seconds stage=plan", stats.plan_time.as_secs_f64()),
        ("multilane_stage_seconds stage=execute", stats.execution_time.as_secs_f64()),
        ("multilane_stage_seconds stage=finish", stats.finish_time.as_secs_f64()),
        ("multilane_stage_seconds stage=learn", stats.learn_time.as_secs_f64()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), vec![value]));
    assert_eq!(figures, BTreeMap::from(expected));
}

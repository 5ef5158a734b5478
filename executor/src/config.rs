//! What a user can set.

use std::num::NonZeroUsize;

/// Settings of a [`ParallelExecutor`](crate::ParallelExecutor).
///
/// A configuration is a plain value: it never reads the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutorConfig {
    /// Number of worker threads, the calling thread included.
    pub threads: NonZeroUsize,
    /// Whether the executor may decide that a block is too small, or too much of a single chain, to
    /// profit from more than one thread, and run it sequentially. On by default; tests of the
    /// parallel pipeline turn it off.
    pub allow_sequential: bool,
    /// Whether whole blocks come with their access list (EIP-7928) before Amsterdam too. Off by
    /// default. From Amsterdam on they always do.
    pub access_lists: bool,
    /// Threads, beside the workers, that read ahead of them what transactions are expected to need.
    /// None by default: worth it for sources that wait (a disk, another machine), and work in vain
    /// for state that is in memory.
    pub prefetch_threads: usize,
}

impl ExecutorConfig {
    /// As many workers as the machine has cores.
    pub fn new() -> Self {
        Self {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            allow_sequential: true,
            access_lists: false,
            prefetch_threads: 0,
        }
    }

    /// Sets the number of workers. Zero means one.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets whether a block may run sequentially because that is judged faster.
    #[must_use]
    pub const fn with_allow_sequential(mut self, allow: bool) -> Self {
        self.allow_sequential = allow;
        self
    }

    /// Sets whether whole blocks come with their access list before Amsterdam too.
    #[must_use]
    pub const fn with_access_lists(mut self, wanted: bool) -> Self {
        self.access_lists = wanted;
        self
    }

    /// Sets how many threads read ahead of the workers. They wait most of the time, so there may be
    /// more of them than cores: about as many as reads that the source can answer at the same time.
    #[must_use]
    pub const fn with_prefetch_threads(mut self, threads: usize) -> Self {
        self.prefetch_threads = threads;
        self
    }
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self::new()
    }
}

//! What an execution costs this process: processor time and memory.
//!
//! Both are read from the operating system around an execution, outside of its clock. Where the
//! system does not tell (memory other than on Linux), there is no figure rather than a guess.

use std::time::{Duration, Instant};

/// Something that was executed, and what it cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metered<T> {
    pub(crate) time: Duration,
    /// Processor time of all threads of the process meanwhile.
    pub(crate) cpu: Option<Duration>,
    /// The most memory that the process had resident meanwhile, in bytes.
    pub(crate) peak_bytes: Option<u64>,
    pub(crate) value: T,
}

impl<T> Metered<T> {
    /// The same measures of something else.
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Metered<U> {
        let Self { time, cpu, peak_bytes, value } = self;
        Metered { time, cpu, peak_bytes, value: map(value) }
    }
}

impl<T, E> Metered<Result<T, E>> {
    /// What succeeded with its measures, or the error alone.
    ///
    /// # Errors
    ///
    /// The error that was measured.
    pub(crate) fn transpose(self) -> Result<Metered<T>, E> {
        let Self { time, cpu, peak_bytes, value } = self;
        value.map(|value| Metered { time, cpu, peak_bytes, value })
    }
}

/// Runs `work` and takes its measures. What it returns is dropped by the caller, after the clock
/// has stopped.
pub(crate) fn metered<T>(work: impl FnOnce() -> T) -> Metered<T> {
    let watches_memory = reset_peak_memory();
    let cpu_before = cpu_time();
    let start = Instant::now();
    let value = work();
    let time = start.elapsed();
    let cpu = cpu_time().zip(cpu_before).and_then(|(after, before)| after.checked_sub(before));
    let peak_bytes = if watches_memory { peak_memory() } else { None };
    Metered { time, cpu, peak_bytes, value }
}

#[cfg(unix)]
fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(unix))]
const fn cpu_time() -> Option<Duration> {
    None
}

/// Starts a new maximum at what is resident now (proc(5), `clear_refs`). Whether that worked.
#[cfg(target_os = "linux")]
fn reset_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

#[cfg(target_os = "linux")]
fn peak_memory() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

#[cfg(not(target_os = "linux"))]
const fn reset_peak_memory() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
const fn peak_memory() -> Option<u64> {
    None
}

/// `VmHWM` of a `/proc/self/status`, in bytes.
#[cfg(any(target_os = "linux", test))]
fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_kernel_s_listing() {
        let status = "Name:\tmultilane\nVmPeak:\t  900 kB\nVmHWM:\t  12345 kB\nVmRSS:\t 100 kB\n";
        assert_eq!(peak_in(status), Some(12_345 * 1024));
        assert_eq!(peak_in("Name:\tmultilane\n"), None);
        assert_eq!(peak_in("VmHWM:\tmuch\n"), None);
    }

    #[cfg(unix)]
    #[test]
    fn work_costs_processor_time() {
        let metered = metered(|| (0..2_000_000_u64).fold(0_u64, |sum, word| sum ^ word.pow(2)));
        assert!(metered.cpu.is_some_and(|cpu| !cpu.is_zero()), "{metered:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_touched_counts() {
        const BYTES: usize = 64 << 20;
        let idle = metered(|| ());
        let busy = metered(|| vec![1_u8; BYTES].iter().map(|byte| u64::from(*byte)).sum::<u64>());
        if let (Some(idle), Some(busy)) = (idle.peak_bytes, busy.peak_bytes) {
            assert!(busy >= idle + (BYTES / 2) as u64, "{idle} {busy}");
        }
    }
}

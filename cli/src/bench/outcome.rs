//! How the blocks of a run fared, for the exit status.

use crate::exit::Exit;

/// Counts of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Measured at every number of threads.
    pub(crate) measured: usize,
    /// Not to be trusted: wrong output, or none.
    pub(crate) wrong: usize,
    /// Not generated, or not read.
    pub(crate) unusable: usize,
}

impl Outcome {
    /// The exit status of a run that was not interrupted.
    pub(crate) const fn exit(self) -> Exit {
        match (self.unusable, self.wrong) {
            (0, 0) => Exit::Success,
            (0, _) => Exit::Failed,
            _ => Exit::Unusable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_input_outweighs_a_wrong_output() {
        let exit = |wrong, unusable| Outcome { measured: 1, wrong, unusable }.exit();
        assert_eq!(exit(0, 0), Exit::Success);
        assert_eq!(exit(1, 0), Exit::Failed);
        assert_eq!(exit(0, 1), Exit::Unusable);
        assert_eq!(exit(1, 1), Exit::Unusable);
    }
}

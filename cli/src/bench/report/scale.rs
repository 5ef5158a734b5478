//! From values to places on an axis that starts at zero.

/// A linear axis with round ticks.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    /// The value at the far end.
    end: f64,
    step: f64,
    /// Where zero is, and where the far end is.
    from: f64,
    to: f64,
}

impl Scale {
    /// An axis that reaches at least to `most`, with about `ticks` ticks, between two places.
    pub(super) fn new(most: f64, ticks: usize, from: f64, to: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = round_step(most / ticks.max(1) as f64);
        // A value that ends on a tick needs no further one.
        let end = (most / step - 1e-9).ceil().max(1.0) * step;
        Self { end, step, from, to }
    }

    /// The place of a value.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = if value.is_finite() { (value / self.end).clamp(0.0, 1.0) } else { 0.0 };
        self.from + share * (self.to - self.from)
    }

    /// The ticks with their labels, zero among them.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        let count = (self.end / self.step).round() as usize;
        let digits = if self.step >= 1.0 { 0 } else { (-self.step.log10()).ceil() as usize };
        (0..=count).map(move |index| {
            let value = index as f64 * self.step;
            (self.place(value), format!("{value:.digits$}"))
        })
    }
}

/// The next larger one of 1, 2 and 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(most: f64) -> Vec<String> {
        Scale::new(most, 4, 0.0, 100.0).ticks().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_reach_the_largest_value() {
        assert_eq!(labels(1.9), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(labels(0.17), ["0.00", "0.05", "0.10", "0.15", "0.20"]);
        assert_eq!(labels(1400.0), ["0", "500", "1000", "1500"]);
        assert_eq!(labels(4.0), ["0", "1", "2", "3", "4"]);
    }

    #[test]
    fn odd_values_stay_on_the_axis() {
        for most in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(labels(most).last().map(String::as_str), Some("1.0"), "{most}");
        }
        let scale = Scale::new(2.0, 4, 10.0, 110.0);
        assert_eq!(scale.place(1.0), 60.0);
        assert_eq!(scale.place(5.0), 110.0);
        assert_eq!(scale.place(-5.0), 10.0);
        assert_eq!(scale.place(f64::NAN), 10.0);
    }
}

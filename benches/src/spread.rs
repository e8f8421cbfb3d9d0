//! What many rounds say.

use std::fmt;

/// The median of a figure over all rounds, and between what four of five lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// # Panics
    ///
    /// If there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let tenth = last / 10;
        Self {
            low: values[tenth],
            median: values[values.len() / 2],
            high: values[last - tenth],
        }
    }

    /// Of one figure by another, each pair of the same round.
    pub(crate) fn of_pairs(mine: &[f64], theirs: &[f64], by: impl Fn(f64, f64) -> f64) -> Self {
        Self::of(
            mine.iter()
                .zip(theirs)
                .map(|(&mine, &theirs)| by(mine, theirs)),
        )
    }

    /// The ratio of one to another within each round.
    pub(crate) fn ratio(mine: &[f64], theirs: &[f64]) -> Self {
        Self::of_pairs(mine, theirs, |mine, theirs| mine / theirs)
    }

    /// With so many decimals, and what stands behind the number.
    pub(crate) fn shown(self, decimals: usize, unit: &str) -> String {
        let number = |value| number(value, decimals);
        format!(
            "{}{unit} ({}–{})",
            number(self.median),
            number(self.low),
            number(self.high)
        )
    }
}

/// As a whole number.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(0, ""))
    }
}

/// A number with commas between its thousands.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, part) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    if value < 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        out.push('−');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + part
}

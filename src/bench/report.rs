//! Figures, gathered over rounds and targets: a table for people, JSON for scripts.

use std::fmt;

use hdrhistogram::{CreationError, Histogram};
use serde_json::{Value, json};

/// Which way a figure should go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// One measured number.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) value: f64,
    pub(super) better: Better,
}

impl Figure {
    pub(super) fn new(name: String, unit: &'static str, value: f64, better: Better) -> Figure {
        Figure { name, unit, value, better }
    }
}

/// A histogram of nanoseconds up to an hour, to three digits.
///
/// # Errors
/// Never with these limits; the type of the library says so only at run time.
pub(super) fn new_histogram() -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_max(3_600_000_000_000, 3)
}

/// The percentiles of a histogram of nanoseconds, in milliseconds.
pub(super) fn latencies(name: &str, times: &Histogram<u64>) -> Vec<Figure> {
    let at = |label: &str, nanos: u64| Figure::new(format!("{name} {label}"), "ms", nanos as f64 / 1e6, Better::Lower);
    let percentiles = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];
    let mut figures: Vec<Figure> = percentiles.iter().map(|(label, q)| at(label, times.value_at_quantile(*q))).collect();
    figures.push(at("max", times.max()));
    figures
}

#[derive(Clone, Debug)]
struct Row {
    scenario: &'static str,
    name: String,
    unit: &'static str,
    better: Better,
    /// By target, then by round and pass.
    values: Vec<Vec<f64>>,
}

impl Row {
    fn medians(&self) -> Vec<Option<f64>> {
        self.values.iter().map(|values| median(values)).collect()
    }

    /// The first target's median by the second's.
    fn ratio(&self) -> Option<f64> {
        match self.medians()[..] {
            [Some(first), Some(second)] if second != 0.0 => Some(first / second),
            _ => None,
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], upper) } else { upper })
}

/// All figures of one run of the bench.
#[derive(Clone, Debug)]
pub struct Report {
    targets: Vec<String>,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(targets: Vec<String>) -> Report {
        Report { targets, rows: Vec::new() }
    }

    /// Adds what one scenario measured on target number `target`.
    pub(super) fn add(&mut self, scenario: &'static str, target: usize, figures: Vec<Figure>) {
        for figure in figures {
            let Figure { name, unit, value, better } = figure;
            let known = self.rows.iter().position(|r| r.scenario == scenario && r.name == name && r.unit == unit);
            let row = known.unwrap_or_else(|| {
                let values = vec![Vec::new(); self.targets.len()];
                self.rows.push(Row { scenario, name, unit, better, values });
                self.rows.len() - 1
            });
            if let Some(values) = self.rows[row].values.get_mut(target) {
                values.push(value);
            }
        }
    }

    /// For scripts: `targets`, and `figures` with `scenario`, `name`, `unit`, `better`, `median` by target, `values` by
    /// target, and with two targets `ratio` (first by second).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let figure = |row: &Row| {
            let better = match row.better {
                Better::Higher => "higher",
                Better::Lower => "lower",
            };
            json!({ "scenario": row.scenario, "name": row.name, "unit": row.unit, "better": better,
                    "median": row.medians(), "values": row.values, "ratio": row.ratio() })
        };
        json!({ "targets": self.targets, "figures": self.rows.iter().map(figure).collect::<Vec<_>>() })
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![row.scenario.to_owned(), row.name.clone(), row.unit.to_owned()];
        cells.extend(row.medians().into_iter().map(|m| m.map_or_else(|| "-".to_owned(), number)));
        if self.targets.len() == 2 {
            cells.push(row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        cells
    }
}

/// Three digits that matter, or all in front of the point.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = vec!["scenario".to_owned(), "figure".to_owned(), "unit".to_owned()];
        head.extend(self.targets.iter().cloned());
        if let [first, second] = &self.targets[..] {
            head.push(format!("{first} / {second}"));
        }
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|row| self.cells(row)));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        for (i, line) in lines.iter().enumerate() {
            let line_break = if i == 0 { "" } else { "\n" };
            write!(f, "{line_break}")?;
            let cells = line.iter().zip(&widths).enumerate();
            // Words to the left, numbers to the right.
            let pad = |(column, (cell, &width)): (usize, (&String, &usize))| {
                if column < 3 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            };
            f.write_str(&cells.map(pad).collect::<Vec<String>>().join("  "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new(vec!["A".to_owned(), "h:1".to_owned()]);
        for (target, values) in [(0, [300.0, 100.0, 200.0]), (1, [100.0, 100.0, 400.0])] {
            for value in values {
                report.add("produce", target, vec![Figure::new("in".to_owned(), "MB/s", value, Better::Higher)]);
            }
        }
        report
    }

    #[test]
    fn the_table_shows_medians_and_their_ratio() {
        let expected = "scenario  figure  unit    A  h:1  A / h:1\nproduce   in      MB/s  200  100     2.00";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn json_keeps_every_value() {
        let json = report().to_json();
        assert_eq!(json["figures"][0]["values"][0], json!([300.0, 100.0, 200.0]));
        assert_eq!(json["figures"][0]["ratio"], json!(2.0));
        assert_eq!(json["targets"], json!(["A", "h:1"]));
    }

    #[test]
    fn a_figure_that_one_target_lacks_has_no_ratio() {
        let mut report = report();
        report.add("produce", 0, vec![Figure::new("cpu yaks".to_owned(), "s/GiB", 0.5, Better::Lower)]);
        assert!(report.to_string().ends_with("0.500    -        -"), "{report}");
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut times = new_histogram().unwrap();
        for millis in 1..=1000 {
            times.record(millis * 1_000_000).unwrap();
        }
        let p99 = &latencies("x", &times)[2];
        assert_eq!((p99.name.as_str(), p99.value.round()), ("x p99", 990.0));
    }

    #[test]
    fn medians_of_even_and_odd_numbers() {
        assert_eq!((median(&[3.0, 1.0]), median(&[9.0, 1.0, 2.0]), median(&[])), (Some(2.0), Some(2.0), None));
    }
}

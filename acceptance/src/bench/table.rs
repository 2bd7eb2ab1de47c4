//! Medians, and how many times less ours takes than another.

use super::measure::Usage;

/// What was measured of one work, run by run.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Ours.
    pub ours: Vec<Usage>,
    /// The reference's, as many, or none.
    pub theirs: Vec<Usage>,
}

/// Lines of results.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<String>,
}

fn median(usages: &[Usage], of: impl Fn(&Usage) -> f64) -> f64 {
    let mut values: Vec<f64> = usages.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

impl Table {
    /// With its heading.
    pub fn new() -> Self {
        let line = "| work | ours: wall, CPU, peak RSS | reference: wall, CPU, peak RSS | wall ratio (each pair) | CPU ratio |";
        Self { lines: vec![line.to_owned(), "| --- | --- | --- | --- | --- |".to_owned()] }
    }

    /// Adds what was measured.
    pub fn add(&mut self, work: &str, comparison: &Comparison) {
        let Comparison { ours, theirs } = comparison;
        let shown = |usages: &[Usage]| {
            if usages.is_empty() {
                return "-".to_owned();
            }
            let most = usages.iter().map(|usage| usage.memory).fold(0.0, f64::max);
            let (wall, cpu) = (median(usages, |usage| usage.wall), median(usages, |usage| usage.cpu));
            format!("{wall:.2} s, {cpu:.2} s, {most:.1} MiB")
        };
        let ratio = |of: fn(&Usage) -> f64| match theirs.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.2}", median(theirs, of) / median(ours, of)),
        };
        let mut pairs: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| theirs.wall / ours.wall).collect();
        pairs.sort_by(f64::total_cmp);
        let pairs: Vec<String> = pairs.iter().map(|ratio| format!("{ratio:.1}")).collect();
        let each = if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(" ")) };
        self.lines.push(format!(
            "| {work} | {} | {} | {}{each} | {} |",
            shown(ours),
            shown(theirs),
            ratio(|usage| usage.wall),
            ratio(|usage| usage.cpu)
        ));
    }

    /// The table as text.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let usage = |wall: f64| Usage { wall, cpu: wall * 2.0, memory: wall * 10.0 };
        let comparison =
            Comparison { ours: [1.0, 3.0, 2.0].map(usage).to_vec(), theirs: [8.0, 6.0, 40.0].map(usage).to_vec() };
        let mut table = Table::new();
        table.add("work", &comparison);
        table.add("alone", &Comparison { ours: vec![usage(1.0), usage(2.0)], theirs: Vec::new() });
        let text = table.text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| work | 2.00 s, 4.00 s, 30.0 MiB | 8.00 s, 16.00 s, 400.0 MiB | 4.00 (2.0 8.0 20.0) | 4.00 |",
                "| alone | 1.50 s, 3.00 s, 20.0 MiB | - | - | - |",
            ]
        );
    }
}

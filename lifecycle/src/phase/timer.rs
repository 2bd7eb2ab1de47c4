//! How long phases take, for those who ask for debug output: a line when something begins, and one when it ends.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::debug;

use crate::image::rfc3339;

/// Says that something begins, and when it is dropped how long it took. The lines are the reference's.
#[must_use = "it ends when it is dropped"]
pub struct Timer {
    name: String,
    begun: Instant,
}

impl Timer {
    /// `name` is what begins, `Detector` for instance.
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        debug!("Timer: {name} started at {}", now());
        Self { name, begun: Instant::now() }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        debug!("Timer: {} ran for {} and ended at {}", self.name, shown(self.begun.elapsed()), now());
    }
}

fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    rfc3339(i64::try_from(seconds).unwrap_or(0))
}

/// As Go prints a duration: `1h2m3.5s`, `12.5ms`, `7µs`, without zeros at the end.
fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        let nanoseconds = duration.subsec_nanos();
        return match nanoseconds {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanoseconds}ns"),
            1_000..1_000_000 => format!("{}µs", decimal(nanoseconds.into(), 1_000, 3)),
            _ => format!("{}ms", decimal(nanoseconds.into(), 1_000_000, 6)),
        };
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let rest = seconds % 60 * 1_000_000_000 + u64::from(duration.subsec_nanos());
    let rest = decimal(rest, 1_000_000_000, 9);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// A number of `unit`ths, which have so many digits.
fn decimal(value: u64, unit: u64, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_prints_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (999, "999ns"),
            (1_000, "1µs"),
            (1_050, "1.05µs"),
            (12_500_000, "12.5ms"),
            (100_000_001, "100.000001ms"),
            (1_000_000_000, "1s"),
            (10_000_000_000, "10s"),
            (62_000_000_000, "1m2s"),
            (3_600_500_000_000, "1h0m0.5s"),
            (100_800_000_000_001, "28h0m0.000000001s"),
        ] {
            assert_eq!(shown(Duration::from_nanos(nanoseconds)), text);
        }
    }
}

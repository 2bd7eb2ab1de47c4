//! When to try again, and how long to wait before.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::transport::ExchangeError;

/// How patient we are. Tests make it short.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// Attempts of one request, the first included.
    pub(crate) attempts: u32,
    /// Of those, attempts where nobody answers: a closed port, silence, name servers that do not answer.
    pub(crate) attempts_without_answer: u32,
    /// Of those, attempts where the host's name is unknown: name servers are rarely wrong about that.
    pub(crate) attempts_unknown_name: u32,
    /// Before the second attempt; three times as long before each further one.
    pub(crate) first_delay: Duration,
    /// At most this long before an attempt, whatever the server asks for.
    pub(crate) longest_delay: Duration,
    /// No attempt begins later than this after the first.
    pub(crate) in_total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            attempts_without_answer: 3,
            attempts_unknown_name: 2,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(60),
            in_total: Duration::from_secs(300),
        }
    }
}

impl Patience {
    /// With a registry that this process has already waited for in vain: one attempt.
    pub(super) fn used_up(&self) -> Self {
        Self { attempts: 1, ..self.clone() }
    }
}

/// The attempts of one request.
pub(super) struct Attempts {
    patience: Patience,
    began: Instant,
    made: u32,
    unanswered: u32,
}

impl Attempts {
    pub(super) fn new(patience: &Patience) -> Self {
        Self { patience: patience.clone(), began: Instant::now(), made: 0, unanswered: 0 }
    }

    /// How many were made, this one included.
    pub(super) fn made(&self) -> u32 {
        self.made + 1
    }

    /// After an attempt without an answer: waits and says `true`, or says `false` if there is no use.
    pub(super) fn again_after_error(&mut self, error: &ExchangeError) -> bool {
        let ExchangeError::Network { cause, .. } = error else { return false };
        if !cause.is_temporary() {
            return false;
        }
        if cause.is_nobody() || cause.is_timeout() {
            self.unanswered += 1;
            let unknown = cause.name().is_some_and(|name| !name.is_temporary);
            let Patience { attempts_without_answer, attempts_unknown_name, .. } = self.patience;
            if self.unanswered >= if unknown { attempts_unknown_name } else { attempts_without_answer } {
                return false;
            }
        }
        self.again(None)
    }

    /// After an attempt that failed in another way; `asked` is how long the server wants us to wait.
    pub(super) fn again(&mut self, asked: Option<Duration>) -> bool {
        let Some(delay) = self.delay(asked, jitter()) else { return false };
        log::debug!("trying again in {} ms", delay.as_millis());
        std::thread::sleep(delay);
        true
    }

    /// How long to wait before the next attempt; `None`: there is none. `jitter` is between 0 and 1.
    fn delay(&mut self, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        self.made += 1;
        if self.made >= self.patience.attempts {
            return None;
        }
        let own = self.patience.first_delay.saturating_mul(3_u32.saturating_pow(self.made - 1));
        // Between three quarters and one and a quarter, so that many clients do not come back together; never earlier
        // than the server asked for.
        let own = own.mul_f64(0.75 + jitter / 2.0);
        let delay = asked.map_or(own, |asked| asked.max(own)).min(self.patience.longest_delay);
        (self.began.elapsed() + delay <= self.patience.in_total).then_some(delay)
    }
}

/// Whether a status says that the same request may succeed later.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 499 | 500..=599) && !matches!(status, 501 | 505)
}

/// A random number between 0 and 1: std's hash keys are random.
pub(super) fn jitter() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// As [`parse_retry_after`], now.
pub(super) fn retry_after(text: &str) -> Option<Duration> {
    parse_retry_after(text, SystemTime::now())
}

/// Seconds, or a date in the form that HTTP prescribes: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = parse_date(text)?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// A date in the form that HTTP prescribes.
pub(super) fn parse_date(text: &str) -> Option<SystemTime> {
    let mut words = text.trim().strip_suffix(" GMT")?.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(str::parse::<u64>);
    let mut part = || clock.next()?.ok().filter(|part| *part < 61);
    let seconds = part()? * 3600 + part()? * 60 + part()?;
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_days = (1970..year).filter(|year| leap(*year)).count() as u64 + u64::from(month > 1 && leap(year));
    let days = (year - 1970) * 365 + leap_days + BEFORE.get(month)? + day - 1;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_headers() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (text, expected) in [
            ("0", Some(0)),
            (" 12 ", Some(12)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("Sun, 06 Nov 1983 08:49:37 GMT", Some(0)),
            ("Thu, 29 Feb 1996 00:00:00 GMT", Some(825_552_000 - 784_111_770)),
            ("-1", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 99999999999999999 08:49:37 GMT", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn delays_grow_and_end() {
        let patience = Patience::default();
        let mut attempts = Attempts::new(&patience);
        let delays: Vec<_> = (0..5).map(|_| attempts.delay(None, 0.5).map(|delay| delay.as_millis())).collect();
        assert_eq!(delays, [Some(100), Some(300), Some(900), Some(2700), Some(8100)]);
        assert_eq!(attempts.delay(None, 0.5), None);
        let mut attempts = Attempts::new(&patience);
        assert_eq!(attempts.delay(Some(Duration::from_secs(7)), 0.0), Some(Duration::from_secs(7)));
        assert_eq!(attempts.delay(Some(Duration::from_secs(7_000_000)), 0.0), Some(patience.longest_delay));
        assert_eq!(attempts.delay(None, 0.0), Some(Duration::from_millis(675)));
        let short = Patience { in_total: Duration::from_millis(1), ..Patience::default() };
        assert_eq!(Attempts::new(&short).delay(None, 0.5), None);
    }

    #[test]
    fn statuses() {
        for (status, temporary) in [
            (200, false),
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (408, true),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
            (522, true),
        ] {
            assert_eq!(is_temporary(status), temporary, "{status}");
        }
        assert!((0..100).all(|_| (0.0..=1.0).contains(&jitter())));
    }
}

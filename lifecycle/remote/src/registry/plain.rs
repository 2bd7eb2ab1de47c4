//! Whether a registry is spoken to with TLS. Decided once for each registry: what was https stays https.
//!
//! - Registries on this machine by name (localhost and what ends in `.localhost`, 127.0.0.1, ::1), those whose name is
//!   a private address (RFC 1918; no name is resolved for this), and those that `-insecure-registry` names: https first;
//!   plain http if the port is closed, answers something else than TLS, or is silent for 300 ms. A certificate that
//!   does not verify is an error, except for those that are named.
//! - All others: https.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ureq::http::Method;

use super::challenge::Challenge;
use super::client::{Client, challenge_of, refusal};
use super::error::CallError;
use super::retry::{Attempts, is_temporary};
use crate::transport::{Body, Exchange, ExchangeError, Response};
use crate::url::{Scheme, Url, host_and_port};

/// To connect to a registry that this process has waited for in vain: mirrors and later images are not to wait as long.
const CONNECT_AGAIN: Duration = Duration::from_secs(3);

/// For such a registry to say something.
const IDLE_AGAIN: Duration = Duration::from_secs(10);

/// Whether plain http may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Plain {
    /// No.
    Never,
    /// If there is no TLS: this machine or a private address.
    Private,
    /// As [`Self::Private`], and certificates are not checked: named by `-insecure-registry`.
    Named,
}

impl Plain {
    /// For an image name as given, of `registry`; `insecure` are prefixes of such names.
    pub(super) fn of(name: &str, registry: &str, insecure: &[String]) -> Self {
        if insecure.iter().any(|prefix| !prefix.is_empty() && name.starts_with(prefix.as_str())) {
            Self::Named
        } else if is_private(registry) {
            Self::Private
        } else {
            Self::Never
        }
    }
}

fn is_private(registry: &str) -> bool {
    let (host, _) = host_and_port(registry);
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address == Ipv4Addr::LOCALHOST || address.is_private(),
        Ok(IpAddr::V6(address)) => address == Ipv6Addr::LOCALHOST,
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

impl Client {
    /// How the registry is spoken to. The first call finds out, and learns what it wants as proof; others wait.
    pub(super) fn scheme(&self) -> Result<Scheme, CallError> {
        let mut decided = self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scheme) = *decided {
            return Ok(scheme);
        }
        self.check_credential()?;
        let (scheme, challenge) = self.greet()?;
        self.authorizer.lock().unwrap_or_else(PoisonError::into_inner).learn(challenge);
        *decided = Some(scheme);
        Ok(scheme)
    }

    /// `GET /v2/` without credentials, until there is an answer.
    fn greet(&self) -> Result<(Scheme, Challenge), CallError> {
        let given_up = self.given_up.load(Ordering::Relaxed);
        let mut attempts = Attempts::new(&if given_up { self.patience.used_up() } else { self.patience.clone() });
        let mut known = if self.plain == Plain::Never { Some(Scheme::Https) } else { None };
        loop {
            let greeted = match known {
                Some(scheme) => self
                    .knock(scheme, false)
                    .map(|response| (scheme, response))
                    .map_err(|error| self.no_answer(attempts.made(), error)),
                None => self.greet_either(attempts.made()),
            };
            match greeted {
                Ok((scheme, response)) if is_temporary(response.status) => {
                    known = Some(scheme);
                    let error = refusal(&Method::GET, response);
                    if !attempts.again(error.retry_after()) {
                        return Err(error);
                    }
                }
                Ok((scheme, response)) => {
                    log::debug!("{} is spoken to by {}", self.registry, scheme.name());
                    let unauthorized = response.status == 401;
                    return Ok((scheme, if unauthorized { challenge_of(&response.headers) } else { Challenge::None }));
                }
                Err(error) => {
                    let Some(cause) = error.why_no_answer() else { return Err(error) };
                    let is_gone = matches!(cause, ExchangeError::Network { cause, .. } if cause.is_nobody() || cause.is_timeout());
                    let again = attempts.again_after_error(cause);
                    self.given_up.fetch_or(is_gone && !again, Ordering::Relaxed);
                    if !again {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn greet_either(&self, made: u32) -> Result<(Scheme, Response), CallError> {
        let https = match self.knock(Scheme::Https, true) {
            Ok(response) => return Ok((Scheme::Https, response)),
            Err(error) => error,
        };
        let (is_tls, is_silent, unknown) = match &https {
            ExchangeError::Network { cause, .. } => (cause.is_tls(), cause.is_timeout(), cause.name()),
            _ => (false, false, None),
        };
        // A host without an address has none for http either; a proxy's may be another. Whoever named the registry is told
        // that http was tried as well.
        let is_unknown = unknown.is_some_and(|name| name.host == host_and_port(&self.registry).0);
        if is_tls || (is_unknown && self.plain != Plain::Named) {
            return Err(self.no_answer(made, https));
        }
        let http = match self.knock(Scheme::Http, false) {
            // What a server says that expects TLS and was asked without.
            Ok(response) if response.status == 400 => refusal(&Method::GET, response),
            Ok(response) => return Ok((Scheme::Http, response)),
            Err(error) => self.no_answer(made, error),
        };
        // It may have been slow rather than silent.
        let https = match is_silent.then(|| self.knock(Scheme::Https, false)) {
            Some(Ok(response)) => return Ok((Scheme::Https, response)),
            Some(Err(error)) => error,
            None => https,
        };
        Err(CallError::Unreachable { https: Box::new(self.no_answer(1, https)), http: Box::new(http) })
    }

    fn knock(&self, scheme: Scheme, hurry: bool) -> Result<Response, ExchangeError> {
        let mut limits = self.transport.limits();
        if self.given_up.load(Ordering::Relaxed) {
            limits.connect = limits.connect.min(CONNECT_AGAIN);
            limits.idle = limits.idle.min(IDLE_AGAIN);
        }
        if hurry {
            limits.connect = limits.connect.min(self.transport.timeouts.prefer_https);
        }
        self.transport.exchange(&Exchange {
            method: Method::GET,
            url: Url::new(scheme, &self.registry, "/v2/"),
            trust: self.trust(),
            authorization: None,
            headers: &[],
            body: Body::None,
            expect: false,
            limits,
        })
    }

    fn no_answer(&self, attempts: u32, cause: ExchangeError) -> CallError {
        CallError::NoAnswer { method: Method::GET, attempts, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_spoken_to_without_tls() {
        let insecure = ["reg.example/team".to_owned(), String::new(), "other:5000".to_owned()];
        for (name, registry, expected) in [
            ("localhost/a", "localhost", Plain::Private),
            ("localhost:5000/a", "localhost:5000", Plain::Private),
            ("x.localhost:5000/a", "x.localhost:5000", Plain::Private),
            ("127.0.0.1:5000/a", "127.0.0.1:5000", Plain::Private),
            ("127.0.0.2:5000/a", "127.0.0.2:5000", Plain::Never),
            ("[::1]:5000/a", "[::1]:5000", Plain::Private),
            ("10.1.2.3/a", "10.1.2.3", Plain::Private),
            ("172.16.0.1/a", "172.16.0.1", Plain::Private),
            ("172.32.0.1/a", "172.32.0.1", Plain::Never),
            ("192.168.0.1:80/a", "192.168.0.1:80", Plain::Private),
            ("192.169.0.1:80/a", "192.169.0.1:80", Plain::Never),
            ("10.example.com/a", "10.example.com", Plain::Never),
            ("localhost.example/a", "localhost.example", Plain::Never),
            ("ubuntu", "index.docker.io", Plain::Never),
            ("reg.example/team/a", "reg.example", Plain::Named),
            ("reg.example/other", "reg.example", Plain::Never),
            ("other:5000/a", "other:5000", Plain::Named),
        ] {
            assert_eq!(Plain::of(name, registry, &insecure), expected, "{name}");
        }
    }
}

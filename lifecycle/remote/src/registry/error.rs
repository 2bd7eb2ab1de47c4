//! What a registry's refusal means.

use std::time::Duration;

use lifecycle::image::{Reference, StoreError};
use lifecycle_launch::console::chain;
use serde::Deserialize;
use thiserror::Error;
use ureq::http::Method;

use crate::credentials::CredentialError;
use crate::transport::ExchangeError;
use crate::url::{Url, UrlError};

/// Why a request did not succeed.
#[derive(Debug, Error)]
pub(super) enum CallError {
    /// No answer.
    #[error("{method}{}{}", place(.cause), if *attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() })]
    NoAnswer {
        method: Method,
        attempts: u32,
        #[source]
        cause: ExchangeError,
    },
    /// An answer that is none of those hoped for.
    #[error("{method} {url}: unexpected status {status}{}", describe(.told.as_deref()))]
    Status {
        method: Method,
        url: Box<Url>,
        status: u16,
        told: Option<String>,
        /// How long the server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that makes no sense.
    #[error("{method} {url}: {what}")]
    Answer { method: Method, url: Box<Url>, what: String },
    /// Neither https nor http was answered.
    #[error("{}; {}", chain(.https), chain(.http))]
    Unreachable { https: Box<CallError>, http: Box<CallError> },
    /// The registry names a place for tokens that we do not use.
    #[error("token of {registry}: realm {realm:?}")]
    Realm {
        registry: String,
        realm: String,
        #[source]
        cause: UrlError,
    },
    /// The place for tokens has no TLS, though the registry has.
    #[error("token of {registry}: refused to ask {realm} without TLS")]
    InsecureRealm { registry: String, realm: Box<Url> },
    /// The place for tokens answers, but not with one. Its status says nothing about an image.
    #[error("token of {registry}")]
    Token {
        registry: String,
        #[source]
        cause: Box<CallError>,
    },
    /// The credential cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

fn place(cause: &ExchangeError) -> String {
    cause.url().map(|url| format!(" {url}")).unwrap_or_default()
}

fn describe(told: Option<&str>) -> String {
    told.map(|told| format!(": {told}")).unwrap_or_default()
}

impl CallError {
    /// The status that was answered.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Why there was no answer, if that is what went wrong: of http, where neither was answered.
    pub(super) fn why_no_answer(&self) -> Option<&ExchangeError> {
        match self {
            Self::NoAnswer { cause, .. } => Some(cause),
            Self::Unreachable { https, http } => http.why_no_answer().or_else(|| https.why_no_answer()),
            _ => None,
        }
    }

    /// How long the server wants us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The error of a store: about `name` as the caller gave it, while `action` was done.
    pub(super) fn into_store(self, name: &str, action: &str) -> StoreError {
        let name = name.to_owned();
        match self {
            Self::Status { method, url, status: status @ (401 | 403), told, .. } => {
                let request = format!("{method} {url}: status {status}").into();
                match status {
                    401 => StoreError::Unauthorized { name, request, told },
                    _ => StoreError::Forbidden { name, request, told },
                }
            }
            cause => StoreError::Failed { action: format!("{action} {name}"), cause: Box::new(cause) },
        }
    }

    /// As [`Self::into_store`], where a 404 means that there is no such image.
    pub(super) fn into_store_for_image(self, name: &str, action: &str) -> StoreError {
        match self.status() {
            Some(404) => StoreError::NotFound { name: name.to_owned() },
            _ => self.into_store(name, action),
        }
    }
}

/// Text that is no image name.
pub(super) fn parse(name: &str) -> Result<Reference, StoreError> {
    Reference::parse(name).map_err(|error| StoreError::Name { name: name.to_owned(), reason: error.reason.to_owned() })
}

/// The text of a registry's JSON error body (OCI distribution specification, *Error Codes*); `None` if it is no such
/// body or empty.
pub(super) fn told(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors = serde_json::from_slice::<Errors>(body).ok()?.errors;
    let texts: Vec<_> =
        errors.into_iter().map(|One { code, message }| printable(&format!("{code}: {message}"))).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// As [`told`], or what another server says in its own way: the beginning of a text.
pub(super) fn told_in_any_way(body: &[u8]) -> Option<String> {
    told(body).or_else(|| {
        let text = printable(String::from_utf8_lossy(body).trim());
        (!text.is_empty() && !text.starts_with('<')).then_some(text)
    })
}

/// A server's text as one line of bounded length, without control characters.
fn printable(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for (body, expected) in [
            ("", None),
            ("not json", None),
            (r#"{"errors":[]}"#, None),
            (r#"{"details":"incorrect username or password"}"#, None),
            (r#"{"errors":[{"code":"DENIED","message":"no","detail":[1]}]}"#, Some("DENIED: no")),
            (r#"{"errors":[{"code":"A"},{"message":"b\u001b[2J\nc"}]}"#, Some("A: ; : b [2J c")),
        ] {
            assert_eq!(told(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = "x".repeat(10_000);
        assert!(told_in_any_way(long.as_bytes()).is_some_and(|text| text.len() < 400));
        assert_eq!(told_in_any_way(b"<html>"), None);
        assert_eq!(told_in_any_way(b" no such thing \n").as_deref(), Some("no such thing"));
    }

    #[test]
    fn statuses_are_not_confused() {
        let error = |status| CallError::Status {
            method: Method::GET,
            url: Box::new(Url::parse("http://reg/v2/").expect("a URL")),
            status,
            told: Some("T".to_owned()),
            retry_after: None,
        };
        assert!(matches!(error(401).into_store("n", "a"), StoreError::Unauthorized { told: Some(_), .. }));
        assert_eq!(error(401).into_store("n", "a").to_string(), "n: unauthorized: GET http://reg/v2/: status 401: T");
        assert_eq!(error(403).into_store("n", "a").to_string(), "n: access denied: GET http://reg/v2/: status 403: T");
        assert!(matches!(error(403).into_store_for_image("n", "a"), StoreError::Forbidden { .. }));
        assert!(matches!(error(404).into_store_for_image("n", "a"), StoreError::NotFound { .. }));
        for status in [400, 404, 429, 500, 502] {
            assert!(matches!(error(status).into_store("n", "a"), StoreError::Failed { .. }), "{status}");
        }
        assert!(matches!(error(502).into_store_for_image("n", "a"), StoreError::Failed { .. }));
        assert_eq!(error(502).to_string(), "GET http://reg/v2/: unexpected status 502: T");
    }
}

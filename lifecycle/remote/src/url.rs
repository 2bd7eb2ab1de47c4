//! URLs as far as registries need them: origin, path and query; joining with a `Location`.

use std::fmt;

use thiserror::Error;

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An absolute http or https URL. Printed without its query, which may hold signatures and tokens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// Host and port as written, without user information.
    pub(crate) authority: String,
    /// Begins with a slash; without query.
    pub(crate) path: String,
    /// What follows the `?`.
    pub(crate) query: Option<String>,
}

/// Text that is not a URL that we follow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unusable URL from the server: {0}")]
pub(crate) struct UrlError(pub(crate) &'static str);

impl Url {
    /// `<scheme>://<authority><path>`; the path may have a query.
    pub(crate) fn new(scheme: Scheme, authority: &str, path_and_query: &str) -> Self {
        let (path, query) = split_query(path_and_query);
        Self { scheme, authority: authority.to_owned(), path: path.to_owned(), query }
    }

    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError("no scheme"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError("neither http nor https")),
        };
        Self::after_slashes(scheme, rest)
    }

    fn after_slashes(scheme: Scheme, rest: &str) -> Result<Self, UrlError> {
        let rest = without_fragment(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // Whatever comes before an @ are credentials, which nobody but ourselves has to tell us.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if authority.is_empty() {
            return Err(UrlError("no host"));
        }
        let tail = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
        Ok(Self::new(scheme, authority, &tail))
    }

    /// What a `Location` means that came as the answer to a request to `self`.
    pub(crate) fn join(&self, location: &str) -> Result<Self, UrlError> {
        let location = without_fragment(location.trim());
        if location.is_empty() {
            return Err(UrlError("empty"));
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::after_slashes(self.scheme, rest);
        }
        if location.starts_with('/') {
            return Ok(Self::new(self.scheme, &self.authority, location));
        }
        if location.starts_with('?') {
            return Ok(Self::new(self.scheme, &self.authority, &format!("{}{location}", self.path)));
        }
        let before_query = location.split(['?', '/']).next().unwrap_or_default();
        if before_query.contains(':') {
            return Self::parse(location);
        }
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        Ok(Self::new(self.scheme, &self.authority, &format!("{directory}/{location}")))
    }

    /// The same with `name=value` (which must need no escaping) added to its query.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let query = match self.query.as_deref() {
            None | Some("") => format!("{name}={value}"),
            Some(query) => format!("{query}&{name}={value}"),
        };
        Self { query: Some(query), ..self.clone() }
    }

    /// Host without port and brackets, in lower case.
    pub(crate) fn host(&self) -> String {
        host_and_port(&self.authority).0
    }

    /// The port, the scheme's own if none is written.
    pub(crate) fn port(&self) -> u16 {
        host_and_port(&self.authority).1.unwrap_or(self.scheme.default_port())
    }

    /// Whether credentials for one may be sent to the other: the same host, and the same port of the same scheme, or
    /// a step from plain http on its own port to https on its own port.
    pub(crate) fn trusts(&self, other: &Self) -> bool {
        let default = |url: &Self| url.port() == url.scheme.default_port();
        self.host() == other.host()
            && match (self.scheme, other.scheme) {
                (Scheme::Https, Scheme::Http) => false,
                (Scheme::Http, Scheme::Https) => default(self) && default(other),
                _ => self.port() == other.port(),
            }
    }

    /// The whole text, with its query: to be sent, not to be printed.
    pub(crate) fn to_text(&self) -> String {
        match &self.query {
            Some(query) => format!("{self}?{query}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits `host:port`, `[v6]:port`, `host`; the host in lower case and without brackets.
pub(crate) fn host_and_port(authority: &str) -> (String, Option<u16>) {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        // More than one colon without brackets is a bare IPv6 address.
        None if authority.matches(':').count() > 1 => (authority, None),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    (host.to_ascii_lowercase(), port.and_then(|port| port.parse().ok()))
}

fn split_query(text: &str) -> (&str, Option<String>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (text, None),
    }
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

/// Escapes a value for a query or a form.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_locations() {
        let base = Url::parse("https://reg.example:5000/v2/a/blobs/uploads/").expect("a URL");
        for (location, expected) in [
            ("/v2/a/blobs/uploads/1?_state=x", "https://reg.example:5000/v2/a/blobs/uploads/1?_state=x"),
            ("1?x=y", "https://reg.example:5000/v2/a/blobs/uploads/1?x=y"),
            ("?x=y", "https://reg.example:5000/v2/a/blobs/uploads/?x=y"),
            ("//other/p", "https://other/p"),
            ("http://other:80/p#f", "http://other:80/p"),
            ("HTTPS://user:pass@other?q=a:b/c", "https://other/?q=a:b/c"),
            ("sha256/a?x=http://z", "https://reg.example:5000/v2/a/blobs/uploads/sha256/a?x=http://z"),
        ] {
            assert_eq!(base.join(location).map(|url| url.to_text()), Ok(expected.to_owned()), "{location}");
        }
        for location in ["", "ftp://other/p", "https://", "https:///p", "javascript:x", "#f"] {
            assert!(base.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn query_is_not_printed() {
        let url = Url::parse("https://reg/p?X-Amz-Signature=secret").expect("a URL");
        assert_eq!(format!("{url} {url:?}"), "https://reg/p https://reg/p");
        assert_eq!(
            url.with_query("digest", "sha256:0").to_text(),
            "https://reg/p?X-Amz-Signature=secret&digest=sha256:0"
        );
    }

    #[test]
    fn where_credentials_may_go() {
        for (from, to, expected) in [
            ("https://reg/a", "https://reg:443/b", true),
            ("https://reg/a", "https://REG/b", true),
            ("https://reg/a", "http://reg/b", false),
            ("https://reg/a", "https://reg:8443/b", false),
            ("https://reg/a", "https://other/b", false),
            ("https://reg/a", "https://reg.evil/b", false),
            ("https://reg/a", "https://reg@evil/b", false),
            ("http://reg/a", "https://reg/b", true),
            ("http://reg:5000/a", "https://reg:5000/b", false),
            ("http://reg:5000/a", "http://reg:5000/b", true),
            ("http://[::1]:5000/a", "http://[::1]:5000/b", true),
        ] {
            let parse = |text| Url::parse(text).expect("a URL");
            assert_eq!(parse(from).trusts(&parse(to)), expected, "{from} {to}");
        }
    }

    #[test]
    fn splits_authorities() {
        for (text, host, port) in [
            ("reg", "reg", None),
            ("Reg:5000", "reg", Some(5000)),
            ("[::1]:5000", "::1", Some(5000)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("reg:none", "reg", None),
        ] {
            assert_eq!(host_and_port(text), (host.to_owned(), port), "{text}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("repository:a/b:pull,push é"), "repository%3Aa%2Fb%3Apull%2Cpush%20%C3%A9");
    }
}

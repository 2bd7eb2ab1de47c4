//! One HTTP exchange: connections, proxies, timeouts, redirects. Knows no registry, no token and no retry.
//!
//! An exchange gives up when the server cannot be connected to, is silent for too long, or takes too long in total.
//! Redirects are followed here, because where credentials may go is decided at each of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use thiserror::Error;
use ureq::http::{self, HeaderMap, HeaderValue, Method, header};
use ureq::{Agent, AsSendBody, SendBody, Timeout};

use crate::connect::{self, NameError};
use crate::proxy::{self, Proxies};
use crate::secret::Secret;
use crate::tls::{self, Roots, Trust};
use crate::url::{Scheme, Url, UrlError};

/// How many redirects one exchange follows.
const REDIRECTS: usize = 10;

/// Limits in time. Tests make them short.
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    /// To resolve a name and to connect, TLS included; each.
    pub(crate) connect: Duration,
    /// Without a byte sent or received.
    pub(crate) idle: Duration,
    /// Without a byte received after a blob was sent: stores copy it before they answer.
    pub(crate) commit: Duration,
    /// For an exchange without a blob.
    pub(crate) total: Duration,
    /// For an exchange with a blob, beside what its size allows.
    pub(crate) blob: Duration,
    /// What a blob's size allows: bytes a second.
    pub(crate) slowest: u64,
    /// For the answer to `Expect: 100-continue`.
    pub(crate) expect: Duration,
    /// For a private registry to begin TLS, before plain http is tried.
    pub(crate) prefer_https: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            total: Duration::from_secs(120),
            blob: Duration::from_secs(900),
            slowest: 16 << 10,
            expect: Duration::from_secs(1),
            prefer_https: Duration::from_millis(300),
        }
    }
}

impl Timeouts {
    /// For an exchange that carries a blob of `size` bytes.
    pub(crate) fn for_blob(&self, size: u64) -> Duration {
        self.blob.saturating_add(Duration::from_secs(size / self.slowest.max(1)))
    }
}

/// What is sent with a request.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    /// Nothing.
    None,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// `length` bytes from a reader, opened anew for each attempt.
    Stream { length: u64, open: &'a Open<'a> },
}

/// Opens a body.
pub(crate) type Open<'a> = dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a;

/// A request to one server.
pub(crate) struct Exchange<'a, 'b> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Of the certificates of `url`'s own host; those of others are always checked.
    pub(crate) trust: Trust,
    /// Sent to `url`'s own host only.
    pub(crate) authorization: Option<&'a Secret>,
    pub(crate) headers: &'a [(header::HeaderName, String)],
    pub(crate) body: Body<'b>,
    /// Ask whether the body is wanted before it is sent.
    pub(crate) expect: bool,
    pub(crate) limits: Limits,
}

/// The limits in time of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// What a server answered; the body is still to be read.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub(crate) url: Url,
    /// Whether the server left a question whether the body is wanted unanswered.
    pub(crate) ignores_expect: bool,
    body: ureq::Body,
}

impl Response {
    /// A header's value, if it is there once and is text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The whole body, at most `limit` bytes.
    pub(crate) fn bytes(self, limit: u64) -> Result<Vec<u8>, ExchangeError> {
        let mut bytes = Vec::new();
        let reader = self.body.into_reader();
        reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| ExchangeError::Network {
            url: Box::new(self.url.clone()),
            proxy: None,
            cause: Cause(ureq::Error::from(error)),
        })?;
        if bytes.len() as u64 > limit {
            return Err(ExchangeError::TooLarge { url: Box::new(self.url), limit });
        }
        Ok(bytes)
    }

    /// What can be read of the body's first `limit` bytes: for messages.
    pub(crate) fn beginning(self, limit: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Whatever was read before an error is as good as nothing more.
        let _ = self.body.into_reader().take(limit).read_to_end(&mut bytes);
        bytes
    }

    /// The body, unchecked: it ends early, if the server says no length and the connection is cut.
    pub(crate) fn reader(self) -> Box<dyn Read + Send> {
        Box::new(self.body.into_reader())
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    /// The connection could not be made, was cut, or was silent.
    #[error("{}{cause}", .proxy.as_deref().map(|proxy| format!("via proxy {proxy}: ")).unwrap_or_default())]
    Network {
        url: Box<Url>,
        /// The proxy's host and port.
        proxy: Option<String>,
        /// Said by this error itself: it is the same step.
        cause: Cause,
    },
    /// What was to be sent could not be read.
    #[error("read what is to be sent")]
    Source(#[source] io::Error),
    /// The answer is larger than such an answer may be.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { url: Box<Url>, limit: u64 },
    /// More redirects than anybody needs.
    #[error("more than {REDIRECTS} redirects")]
    TooManyRedirects { url: Box<Url> },
    /// A redirect, or an upload's location, from https to http.
    #[error("refused to go on to {to} without TLS")]
    Downgrade { from: Box<Url>, to: Box<Url> },
    /// A redirect or location that is no URL.
    #[error("the answer's Location")]
    Url {
        from: Box<Url>,
        #[source]
        cause: UrlError,
    },
}

impl ExchangeError {
    /// Who was asked; the error's own text leaves it out, for the request that failed names it.
    pub(crate) fn url(&self) -> Option<&Url> {
        match self {
            Self::Network { url, .. } | Self::TooLarge { url, .. } | Self::TooManyRedirects { url } => Some(url),
            Self::Downgrade { from, .. } | Self::Url { from, .. } => Some(from),
            Self::Source(_) => None,
        }
    }
}

/// What went wrong on the network.
#[derive(Debug)]
pub(crate) struct Cause(ureq::Error);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(error) = self.tls() {
            return describe_tls(error, f);
        }
        if let Some(error) = self.name() {
            return error.fmt(f);
        }
        match &self.0 {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the connection was closed early")
            }
            ureq::Error::Io(error) => error.fmt(f),
            ureq::Error::InvalidProxyUrl => f.write_str("the proxy's URL is malformed"),
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => f.write_str("timeout while connecting"),
            ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => f.write_str("timeout: the server is silent"),
            ureq::Error::Timeout(_) => f.write_str("timeout: not done in time"),
            other => other.fmt(f),
        }
    }
}

/// What is wrong with a server's TLS, and what helps.
fn describe_tls(error: &rustls::Error, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    use rustls::{CertificateError as Certificate, Error};
    const HELP: &str =
        "add the authority's certificate to SSL_CERT_FILE or SSL_CERT_DIR, or name the registry in -insecure-registry";
    let Error::InvalidCertificate(certificate) = error else {
        return match error {
            Error::InvalidMessage(_) => f.write_str(
                "the server does not speak TLS; if it is a registry without TLS, name it in -insecure-registry",
            ),
            other => write!(f, "TLS: {other}"),
        };
    };
    match certificate {
        Certificate::UnknownIssuer => write!(f, "the server's certificate is signed by an unknown authority; {HELP}"),
        // The only such cause that a certificate by an authority has: it is one itself.
        Certificate::Other(_) => write!(f, "the server's certificate is not trusted ({certificate}); {HELP}"),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            f.write_str("the server's certificate has expired; it has to be renewed, or this machine's clock is wrong")
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            f.write_str("the server's certificate is not valid yet; this machine's clock may be wrong")
        }
        Certificate::NotValidForNameContext { expected, presented } => write!(
            f,
            "the server's certificate is not for {}, but for {}",
            expected.to_str(),
            if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") }
        ),
        other => write!(f, "the server's certificate is not trusted: {other}"),
    }
}

impl std::error::Error for Cause {}

impl Cause {
    fn tls(&self) -> Option<&rustls::Error> {
        match &self.0 {
            ureq::Error::Rustls(error) => Some(error),
            ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            _ => None,
        }
    }

    /// Whether the server speaks TLS, but not such that we can trust or understand it.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls().is_some_and(|error| !matches!(error, rustls::Error::InvalidMessage(_)))
    }

    /// The host whose address could not be found out, if that is what went wrong.
    pub(crate) fn name(&self) -> Option<&NameError> {
        match &self.0 {
            ureq::Error::Other(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Whether nothing was heard in time.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(&self.0, ureq::Error::Timeout(_))
    }

    /// Whether nobody is there: the port is closed, the name or the network is not known.
    pub(crate) fn is_nobody(&self) -> bool {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
        match &self.0 {
            ureq::Error::HostNotFound | ureq::Error::ConnectProxyFailed(_) => true,
            ureq::Error::Other(_) => self.name().is_some(),
            ureq::Error::Io(error) => {
                matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable)
            }
            _ => false,
        }
    }

    /// Whether another attempt may go better.
    pub(crate) fn is_temporary(&self) -> bool {
        match &self.0 {
            ureq::Error::Io(_) => !self.is_tls(),
            ureq::Error::Other(_) => self.name().is_some(),
            ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyStalled => true,
            _ => false,
        }
    }
}

/// Connections to servers, kept and reused.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) timeouts: Timeouts,
    proxies: Proxies,
    roots: Roots,
    agents: Mutex<HashMap<Kind, Agent>>,
}

impl Transport {
    pub(crate) fn new(timeouts: Timeouts, proxies: Proxies, roots: Roots) -> Self {
        Self { timeouts, proxies, roots, agents: Mutex::default() }
    }

    /// The limits of an exchange without a blob.
    pub(crate) fn limits(&self) -> Limits {
        let Timeouts { connect, idle, total, .. } = self.timeouts;
        Limits { connect, idle, total }
    }

    /// Sends a request and follows redirects.
    pub(crate) fn exchange(&self, exchange: &Exchange<'_, '_>) -> Result<Response, ExchangeError> {
        let mut url = exchange.url.clone();
        for _ in 0..=REDIRECTS {
            let own = exchange.url.trusts(&url);
            let response = self.send(exchange, &url, own)?;
            let Some(location) = redirect(&response) else { return Ok(response) };
            let next = follow(&url, &location)?;
            log::debug!("{} {url}: redirected to {next}", exchange.method);
            url = next;
        }
        Err(ExchangeError::TooManyRedirects { url: Box::new(exchange.url.clone()) })
    }

    fn send(&self, exchange: &Exchange<'_, '_>, url: &Url, own: bool) -> Result<Response, ExchangeError> {
        let network = |cause: ureq::Error| ExchangeError::Network {
            url: Box::new(url.clone()),
            proxy: self.proxies.for_url(url).map(proxy::shown),
            cause: Cause(cause),
        };
        let trust = if own { exchange.trust } else { Trust::Checked };
        let agent = self.agent(trust, url).map_err(network)?;

        let mut request = http::Request::builder().method(exchange.method.clone()).uri(url.to_text());
        for (name, value) in exchange.headers {
            request = request.header(name, value);
        }
        let forward = self.forwarder(url).map_err(network)?;
        let secrets = [
            (header::AUTHORIZATION, exchange.authorization.filter(|_| own).cloned()),
            (header::PROXY_AUTHORIZATION, forward.as_ref().and_then(proxy_authorization)),
        ];
        for (name, secret) in secrets {
            if let Some(secret) = secret {
                let value = HeaderValue::from_str(secret.reveal());
                let mut value = value.map_err(|error| network(http::Error::from(error).into()))?;
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        let expect = exchange.expect && forward.is_none();
        let failed = RefCell::new(None);
        let first_read = RefCell::new(None);
        let began = Instant::now();
        let response = match exchange.body {
            Body::None => {
                if !matches!(exchange.method, Method::GET | Method::HEAD) {
                    request = request.header(header::CONTENT_LENGTH, 0);
                }
                self.run(&agent, request.body(()), exchange.limits)
            }
            Body::Bytes(bytes) => {
                request = request.header(header::CONTENT_LENGTH, bytes.len());
                let (left, inner) = (bytes.len() as u64, Box::new(bytes));
                let mut reader = Source { left, inner, failed: &failed, first_read: &first_read };
                self.run(&agent, request.body(SendBody::from_reader(&mut reader)), exchange.limits)
            }
            Body::Stream { length, open } => {
                request = request.header(header::CONTENT_LENGTH, length);
                if expect {
                    request = request.header(header::EXPECT, "100-continue");
                }
                let inner = open().map_err(ExchangeError::Source)?;
                let mut reader = Source { left: length, inner, failed: &failed, first_read: &first_read };
                self.run(&agent, request.body(SendBody::from_reader(&mut reader)), exchange.limits)
            }
        };
        if let Some(error) = failed.take() {
            return Err(ExchangeError::Source(error));
        }
        let (parts, body) = response.map_err(network)?.into_parts();
        let ignores_expect =
            expect && first_read.take().is_some_and(|first: Instant| first - began >= self.timeouts.expect);
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, url: url.clone(), ignores_expect, body })
    }

    fn run(
        &self,
        agent: &Agent,
        request: Result<http::Request<impl AsSendBody>, http::Error>,
        limits: Limits,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let request = agent
            .configure_request(request?)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.idle))
            .timeout_per_write(Some(self.timeouts.idle.min(limits.idle)))
            .timeout_global(Some(limits.total))
            .build();
        agent.run(request)
    }

    /// The connections of one kind, through the proxy for `url` if there is one.
    fn agent(&self, trust: Trust, url: &Url) -> Result<Agent, ureq::Error> {
        let proxy = self.proxies.for_url(url);
        // Plain http needs no roots; they cost milliseconds to read.
        let trust = if url.scheme == Scheme::Http { Trust::Unchecked } else { trust };
        let key = Kind { trust, scheme: url.scheme, proxy: proxy.cloned() };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let forward = self.forwarder(url)?;
        let through = if forward.is_some() { None } else { proxy };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(through.map(|proxy| ureq::Proxy::new(proxy.reveal())).transpose()?)
            .user_agent(concat!("lifecycle/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_await_100(Some(self.timeouts.expect))
            .input_buffer_size(64 << 10)
            .output_buffer_size(64 << 10)
            .max_idle_connections(64)
            .max_idle_connections_per_host(16)
            .max_idle_age(Duration::from_secs(30))
            .build();
        let agent = match forward {
            Some(proxy) => connect::forwarded(config, proxy.uri()),
            None => connect::direct(config, tls::config(trust, &self.roots)?),
        };
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// The proxy that is asked for `url` as a whole, instead of for a tunnel.
    fn forwarder(&self, url: &Url) -> Result<Option<ureq::Proxy>, ureq::Error> {
        let Some(proxy) = self.proxies.for_url(url).filter(|_| url.scheme == Scheme::Http) else { return Ok(None) };
        let proxy = ureq::Proxy::new(proxy.reveal())?;
        Ok((proxy.protocol() == ureq::ProxyProtocol::Http).then_some(proxy))
    }
}

/// What connections have in common that may be used for one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    trust: Trust,
    scheme: Scheme,
    proxy: Option<Secret>,
}

/// The header that a proxy's user and password make.
fn proxy_authorization(proxy: &ureq::Proxy) -> Option<Secret> {
    let user = proxy.username()?;
    let both = format!("{user}:{}", proxy.password().unwrap_or_default());
    Some(Secret::new(format!("Basic {}", STANDARD.encode(both))))
}

/// Where a redirect leads; `None` if the answer is no redirect.
fn redirect(response: &Response) -> Option<String> {
    matches!(response.status, 301 | 302 | 303 | 307 | 308)
        .then(|| response.header(header::LOCATION).map(str::to_owned))
        .flatten()
}

/// What a `Location` means, https kept: a registry behind something that ends TLS for it often says http where it
/// means itself, and gets https; anybody else without TLS is refused.
pub(crate) fn follow(from: &Url, location: &str) -> Result<Url, ExchangeError> {
    let mut to = from.join(location).map_err(|cause| ExchangeError::Url { from: Box::new(from.clone()), cause })?;
    if from.scheme == Scheme::Https && to.scheme == Scheme::Http {
        if from.host() != to.host() || (to.port() != 80 && to.port() != from.port()) {
            return Err(ExchangeError::Downgrade { from: Box::new(from.clone()), to: Box::new(to) });
        }
        to.scheme = Scheme::Https;
        to.authority.clone_from(&from.authority);
    }
    Ok(to)
}

/// A body on its way: exactly `left` bytes; tells apart what failed to be read from what failed to be sent.
struct Source<'a> {
    left: u64,
    inner: Box<dyn Read + 'a>,
    failed: &'a RefCell<Option<io::Error>>,
    first_read: &'a RefCell<Option<Instant>>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.first_read.borrow_mut().get_or_insert_with(Instant::now);
        let end = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..end).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let error = match self.inner.read(buffer) {
            Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"),
            Ok(count) => {
                self.left -= count as u64;
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => error,
        };
        let kind = error.kind();
        self.failed.replace(Some(error));
        Err(kind.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_kept() {
        for (from, location, expected) in [
            ("https://reg/v2/", "http://reg/v2/a", Some("https://reg/v2/a")),
            ("https://reg:5000/v2/", "http://reg:5000/v2/a?x", Some("https://reg:5000/v2/a?x")),
            ("https://reg:5000/v2/", "http://reg/v2/a", Some("https://reg:5000/v2/a")),
            ("https://reg/v2/", "http://reg:5000/v2/a", None),
            ("https://reg/v2/", "http://other/v2/a", None),
            ("https://reg/v2/", "https://other/v2/a", Some("https://other/v2/a")),
            ("http://reg/v2/", "http://other/v2/a", Some("http://other/v2/a")),
            ("http://reg/v2/", "https://other/v2/a", Some("https://other/v2/a")),
            ("https://reg/v2/", "/a", Some("https://reg/a")),
        ] {
            let found = follow(&Url::parse(from).expect("a URL"), location);
            assert_eq!(found.ok().map(|url| url.to_text()).as_deref(), expected, "{from} {location}");
        }
    }

    #[test]
    fn what_is_sent_is_as_long_as_it_was() {
        let read = |content: &[u8], left: u64| {
            let (failed, first_read) = (RefCell::new(None), RefCell::new(None));
            let mut bytes = Vec::new();
            let inner = Box::new(content);
            let result = Source { left, inner, failed: &failed, first_read: &first_read }.read_to_end(&mut bytes);
            (result.is_ok(), bytes, failed.into_inner().is_some())
        };
        assert_eq!(read(b"abc", 3), (true, b"abc".to_vec(), false));
        assert_eq!(read(b"abcd", 3), (true, b"abc".to_vec(), false));
        assert_eq!(read(b"ab", 3), (false, b"ab".to_vec(), true));
    }

    #[test]
    fn large_blobs_get_more_time() {
        let timeouts = Timeouts { blob: Duration::from_secs(10), slowest: 1000, ..Timeouts::default() };
        assert_eq!(timeouts.for_blob(5_000), Duration::from_secs(15));
        assert!(timeouts.for_blob(u64::MAX) > timeouts.for_blob(0));
    }
}

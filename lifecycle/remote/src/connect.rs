//! How connections are made, where that is not ureq's own way.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use thiserror::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, SocksConnector,
    TcpConnector, Transport, TransportAdapter,
};
use ureq::{Agent, Error};

/// An agent that connects directly, or through a proxy by `CONNECT` or SOCKS.
pub(crate) fn direct(config: Config, tls: Arc<ClientConfig>) -> Agent {
    let connector =
        ().chain(SocksConnector::default())
            .chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(Tls(tls));
    Agent::with_parts(config, connector, Names::default())
}

/// An agent that asks a plain http proxy for whole URLs, as is usual where the target has no TLS: many proxies
/// allow `CONNECT` to port 443 only.
pub(crate) fn forwarded(config: Config, proxy: &Uri) -> Agent {
    let connector = ().chain(TcpConnector::default()).chain(Forward);
    Agent::with_parts(config, connector, Fixed { proxy: proxy.clone(), resolver: Names::default() })
}

/// Speaks TLS where the scheme is https: as ureq's own, but with settings that ureq has no words for, and that are
/// made once for an agent.
#[derive(Debug)]
struct Tls(Arc<ClientConfig>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted<In>>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name =
            ServerName::try_from(host).map_err(|_| Error::Tls("the host is no name that a certificate can have"))?;
        let mut connection = ClientConnection::new(self.0.clone(), name.to_owned())?;
        let mut socket = TransportAdapter::new(transport, details.current_time.clone());
        // What connecting took counts, too.
        let mut timeout = details.timeout;
        if let (Instant::Exact(began), Instant::Exact(now), Duration::Exact(limit)) =
            (details.now, (details.current_time)(), timeout.after)
        {
            timeout.after = limit.saturating_sub(now.saturating_duration_since(began)).into();
        }
        socket.set_timeout(timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

struct Encrypted<In: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<In>>,
}

impl<In: Transport> std::fmt::Debug for Encrypted<In> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encrypted").finish_non_exhaustive()
    }
}

impl<In: Transport> Transport for Encrypted<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output();
        Ok(self.stream.write_all(output.get(..amount).unwrap_or(output))?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// A host whose address could not be found out.
#[derive(Debug, Error)]
#[error("{}{host}{}", if *.is_temporary { "look up " } else { "no such host: " }, why(.is_temporary, .text))]
pub(crate) struct NameError {
    /// The registry's, or the proxy's.
    pub(crate) host: String,
    /// The name servers did not answer: nothing is known of the name.
    pub(crate) is_temporary: bool,
    text: String,
}

fn why(is_temporary: &bool, text: &str) -> String {
    if *is_temporary { format!(": {text}") } else { String::new() }
}

impl NameError {
    /// What an error of the system's look-up means; `None` if it is another kind of error. Neither std nor the system
    /// gives more than a text.
    fn of(host: &str, error: &io::Error) -> Option<Self> {
        let text = error.to_string();
        let text = text.strip_prefix("failed to lookup address information: ")?.to_owned();
        // EAI_AGAIN in the words of glibc and of musl.
        let is_temporary = text == "Temporary failure in name resolution" || text == "Try again";
        Some(Self { host: host.to_owned(), is_temporary, text })
    }
}

/// Finds addresses, and tells names that are unknown from other failures.
#[derive(Debug, Default)]
struct Names(DefaultResolver);

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| {
            let host = uri.host().unwrap_or_default();
            match error {
                Error::Io(error) => match NameError::of(host, &error) {
                    Some(unknown) => Error::Other(Box::new(unknown)),
                    None => Error::Io(error),
                },
                other => other,
            }
        })
    }
}

/// Finds the proxy, whatever the target.
#[derive(Debug)]
struct Fixed {
    proxy: Uri,
    resolver: Names,
}

impl Resolver for Fixed {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.resolver.resolve(&self.proxy, config, timeout)
    }
}

/// Writes the target's whole URL in each request's first line.
#[derive(Debug)]
struct Forward;

impl<In: Transport> Connector<In> for Forward {
    type Out = Forwarded<In>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let authority = details.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let prefix = format!("http://{authority}");
        Ok(chained.map(|inner| Forwarded { inner, prefix, at_head: true }))
    }
}

#[derive(Debug)]
struct Forwarded<T> {
    inner: T,
    prefix: String,
    /// Whether what is sent next is the head of a request: nothing was sent since the last answer. (With
    /// `Expect: 100-continue` a body would follow an answer; it is not used through such a proxy.)
    at_head: bool,
}

impl<T: Transport> Transport for Forwarded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut amount = amount;
        if std::mem::take(&mut self.at_head) && amount > 0 {
            let output = self.inner.buffers().output();
            let target = output.iter().take(amount).position(|byte| *byte == b' ').map(|space| space + 1);
            let size = self.prefix.len();
            if let Some(target) = target
                && amount + size <= output.len()
            {
                output.copy_within(target..amount, target + size);
                output[target..target + size].copy_from_slice(self.prefix.as_bytes());
                amount += size;
            }
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.at_head = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_look_up_says() {
        let of = |text: &str| {
            let text = format!("failed to lookup address information: {text}");
            NameError::of("reg.example", &io::Error::other(text)).expect("a look-up")
        };
        for text in ["Name or service not known", "Name does not resolve", "No address associated with hostname"] {
            assert_eq!((of(text).to_string(), of(text).is_temporary), ("no such host: reg.example".to_owned(), false));
        }
        for text in ["Temporary failure in name resolution", "Try again"] {
            assert_eq!((of(text).to_string(), of(text).is_temporary), (format!("look up reg.example: {text}"), true));
        }
        assert!(NameError::of("reg.example", &io::ErrorKind::ConnectionRefused.into()).is_none());
    }
}

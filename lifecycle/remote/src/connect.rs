//! How connections are made, where that is not ureq's own way.

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error};

/// An agent whose requests may set timeouts of their own: directly, or through a proxy by `CONNECT`.
pub(crate) fn direct(config: Config) -> Agent {
    Agent::with_parts(config, Direct(DefaultConnector::new()), DefaultResolver::default())
}

/// An agent that asks a plain http proxy for whole URLs, as is usual where the target has no TLS: many proxies
/// allow `CONNECT` to port 443 only.
pub(crate) fn forwarded(config: Config, proxy: &Uri) -> Agent {
    let connector = ().chain(TcpConnector::default()).chain(Forward);
    Agent::with_parts(config, connector, Fixed { proxy: proxy.clone(), resolver: DefaultResolver::default() })
}

/// ureq keeps its parsed TLS configuration only for requests that leave an agent's settings as they are, and parses
/// all roots anew for others. Ours set timeouts, never anything about TLS, so they may say that they leave them.
#[derive(Debug)]
struct Direct(DefaultConnector);

impl Connector<()> for Direct {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let details = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: false,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.0.connect(&details, None)
    }
}

/// Finds the proxy, whatever the target.
#[derive(Debug)]
struct Fixed {
    proxy: Uri,
    resolver: DefaultResolver,
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

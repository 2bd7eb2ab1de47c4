//! Which proxy a request goes through: the rules of Go's `net/http`, which platforms and their users know.
//!
//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case (the first that is not empty). Hosts that
//! are this machine are never proxied. `NO_PROXY` is a list of names (`example.com` covers `sub.example.com`,
//! `.example.com` only what is below it), addresses and CIDR blocks, each with an optional port, or `*`.

use std::net::IpAddr;

use crate::secret::Secret;
use crate::url::{Scheme, Url, host_and_port};

/// The proxies that the environment names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Secret>,
    https: Option<Secret>,
    direct: Direct,
}

/// `NO_PROXY`.
#[derive(Clone, Debug, Default)]
enum Direct {
    #[default]
    Nothing,
    Everything,
    Some(Vec<(What, Option<u16>)>),
}

/// One element of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Address(IpAddr),
    Block(IpAddr, u8),
    /// A suffix that begins with a dot; `true` if the name without the dot counts, too.
    Domain(String, bool),
}

impl Proxies {
    /// Reads them through `variable`, which gives a variable's value.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let any = |upper: &str| {
            [upper.to_owned(), upper.to_ascii_lowercase()]
                .into_iter()
                .filter_map(|name| variable(&name))
                .find(|value| !value.is_empty())
        };
        Self {
            http: any("HTTP_PROXY").map(|url| Secret::new(with_scheme(&url))),
            https: any("HTTPS_PROXY").map(|url| Secret::new(with_scheme(&url))),
            direct: any("NO_PROXY").map(|list| parse_no_proxy(&list)).unwrap_or_default(),
        }
    }

    /// The proxy's URL (a secret: it may hold a password) for a request.
    pub(crate) fn for_url(&self, url: &Url) -> Option<&Secret> {
        let proxy = match url.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }?;
        self.is_proxied(&url.host(), url.port()).then_some(proxy)
    }

    fn is_proxied(&self, host: &str, port: u16) -> bool {
        if host == "localhost" {
            return false;
        }
        let address = host.parse::<IpAddr>().ok();
        if address.is_some_and(|address| address.is_loopback()) {
            return false;
        }
        match &self.direct {
            Direct::Nothing => true,
            Direct::Everything => false,
            Direct::Some(list) => !list.iter().any(|(what, only)| {
                only.is_none_or(|only| only == port)
                    && match (what, address) {
                        (What::Address(one), Some(address)) => *one == address,
                        (What::Block(network, bits), Some(address)) => contains(*network, *bits, address),
                        (What::Domain(suffix, itself), _) => {
                            host.ends_with(suffix.as_str()) || (*itself && suffix.get(1..) == Some(host))
                        }
                        _ => false,
                    }
            }),
        }
    }
}

/// A proxy's host and port as they are written, without user and password: for messages.
pub(crate) fn shown(proxy: &Secret) -> String {
    let rest = proxy.reveal().split_once("://").map_or(proxy.reveal(), |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned()
}

/// A proxy without a scheme that we know is an http proxy, as for Go. For Go both kinds of SOCKS proxies find the
/// target's address themselves; for ureq only the second.
fn with_scheme(url: &str) -> String {
    if let Some(rest) = url.strip_prefix("socks5://") {
        return format!("socks5h://{rest}");
    }
    let known = ["http://", "https://", "socks5://", "socks5h://"];
    if known.iter().any(|scheme| url.starts_with(scheme)) { url.to_owned() } else { format!("http://{url}") }
}

fn parse_no_proxy(list: &str) -> Direct {
    let mut parsed = Vec::new();
    for element in list.split(',') {
        let element = element.trim().to_ascii_lowercase();
        if element.is_empty() {
            continue;
        }
        if element == "*" {
            return Direct::Everything;
        }
        if let Some((network, bits)) = element.split_once('/')
            && let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u8>())
        {
            parsed.push((What::Block(network, bits), None));
            continue;
        }
        let (host, port) = host_and_port(&element);
        if host.is_empty() {
            continue;
        }
        if let Ok(address) = host.parse() {
            parsed.push((What::Address(address), port));
            continue;
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&host);
        parsed.push(match host.strip_prefix('.') {
            Some(_) => (What::Domain(host.to_owned(), false), port),
            None => (What::Domain(format!(".{host}"), true), port),
        });
    }
    Direct::Some(parsed)
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_of(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = Proxies::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        let url = Url::parse(url).expect("a URL");
        proxies.for_url(&url).map(|proxy| proxy.reveal().to_owned())
    }

    #[test]
    fn chooses_by_scheme_and_case() {
        let variables =
            [("HTTP_PROXY", ""), ("http_proxy", "p:1"), ("HTTPS_PROXY", "https://q:2"), ("https_proxy", "no")];
        assert_eq!(proxy_of(&variables, "http://reg/"), Some("http://p:1".to_owned()));
        assert_eq!(proxy_of(&variables, "https://reg/"), Some("https://q:2".to_owned()));
        assert_eq!(proxy_of(&[("HTTPS_PROXY", "p")], "http://reg/"), None);
        assert_eq!(proxy_of(&[("ALL_PROXY", "p")], "http://reg/"), None);
        assert_eq!(proxy_of(&[("HTTP_PROXY", "socks5://p:3")], "http://reg/"), Some("socks5h://p:3".to_owned()));
    }

    #[test]
    fn goes_direct() {
        for (no_proxy, url, proxied) in [
            ("", "https://localhost:5000/", false),
            ("", "https://127.0.0.1/", false),
            ("", "https://127.8.8.8/", false),
            ("", "https://[::1]/", false),
            ("", "https://10.0.0.1/", true),
            ("*", "https://reg.example/", false),
            ("example.com", "https://example.com/", false),
            ("example.com", "https://sub.example.com/", false),
            ("example.com", "https://notexample.com/", true),
            (".example.com", "https://example.com/", true),
            (".example.com", "https://sub.example.com/", false),
            ("*.example.com", "https://sub.example.com/", false),
            ("*.example.com", "https://example.com/", true),
            ("a, Example.Com ,b", "https://EXAMPLE.com/", false),
            ("example.com:5000", "https://example.com:5000/", false),
            ("example.com:5000", "https://example.com/", true),
            ("example.com:443", "https://example.com/", false),
            ("10.0.0.0/8", "https://10.2.3.4:5000/", false),
            ("10.0.0.0/8", "https://11.2.3.4/", true),
            ("0.0.0.0/0", "https://11.2.3.4/", false),
            ("fd00::/8", "https://[fd12::1]:5000/", false),
            ("10.0.0.1", "https://10.0.0.1/", false),
            ("10.0.0.1:80", "https://10.0.0.1/", true),
            ("[fd00::1]:443", "https://[fd00::1]/", false),
            ("10.0.0.0/99,,:80", "https://10.0.0.1/", true),
        ] {
            let found = proxy_of(&[("HTTPS_PROXY", "p"), ("NO_PROXY", no_proxy)], url);
            assert_eq!(found.is_some(), proxied, "{no_proxy} {url}");
        }
    }

    #[test]
    fn what_is_shown_of_a_proxy() {
        for (url, expected) in [
            ("http://p", "p"),
            ("http://user:hunter2@p:3128/", "p:3128"),
            ("socks5h://us@er:hun/ter2@[::1]:1080", "[::1]:1080"),
            ("p:1", "p:1"),
        ] {
            assert_eq!(shown(&Secret::new(url)), expected);
        }
    }

    #[test]
    fn password_is_not_printed() {
        let proxies =
            Proxies::from_variables(|name| (name == "HTTP_PROXY").then(|| "http://user:hunter2@p".to_owned()));
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}

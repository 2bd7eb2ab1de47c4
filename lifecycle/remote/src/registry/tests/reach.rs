//! How a registry is reached: http or https, proxies, nobody there.

#[path = "../../../tests/common/closed_port.rs"]
mod closed_port;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use lifecycle::image::{Store, StoreError};

use self::closed_port::ClosedPort;
use super::fake::{Auth, Fake};
use super::{chain, impatient, platform, store, store_with};

#[test]
fn nobody_there_is_not_a_missing_image() {
    let closed = ClosedPort::take();
    let registry = &closed.address;
    let began = Instant::now();
    for insecure in [vec![], vec![registry.as_str()]] {
        let error =
            store_with(&[], &insecure).open(&format!("{registry}/app"), &platform("amd64")).expect_err("nobody");
        let text = chain(&error);
        assert!(matches!(error, StoreError::Failed { .. }) && !error.counts_as_absent(), "{error:?}");
        let (https, http) = (format!("GET https://{registry}/v2/"), format!("; GET http://{registry}/v2/"));
        assert!(text.contains(&https) && text.contains(&http) && text.contains("refused"), "{text}");
        assert_eq!(text.matches("://").count(), 2, "each URL once: {text}");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_silent_registry_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let name = format!("{}/app", listener.local_addr().expect("an address"));
    let began = Instant::now();
    let error = impatient().check_read(&name).expect_err("silent");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    assert!(chain(&error).contains("timeout"), "{}", chain(&error));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn plain_http_is_asked_without_credentials_first() {
    let fake = Fake::start();
    fake.state().auth = Auth::Basic("Basic dTpw");
    let variable = format!(r#"{{"{}":"Basic dTpw"}}"#, fake.address);
    let store = store_with(&[("CNB_REGISTRY_AUTH", &variable)], &[]);
    for _ in 0..3 {
        store.check_read(&format!("{}/app", fake.address)).expect("read");
    }
    let greetings: Vec<_> = fake.state().seen.iter().filter(|seen| seen.path == "/v2/").cloned().collect();
    assert_eq!(greetings.len(), 1, "decided once");
    assert!(!greetings[0].headers.contains_key("authorization"));
    assert!(fake.seen("HEAD", "/manifests/").iter().all(|seen| seen.headers.contains_key("authorization")));
}

#[test]
fn a_server_that_wants_tls_and_is_not_trusted_is_not_spoken_to_without() {
    // What answers plain http with 400 may be a TLS server that was too slow for us; so it is not taken for http.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let name = format!("{}/app", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let mut request = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut request);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let error = store().check_read(&name).expect_err("neither");
    assert!(chain(&error).contains("400"), "{}", chain(&error));
}

#[test]
fn plain_http_goes_through_a_proxy_as_whole_urls() {
    // A fake registry is proxy enough: it sees whole URLs instead of paths.
    let proxy = Fake::start();
    let url = format!("http://user:pass@{}", proxy.address);
    let variables = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", "http://127.0.0.1:1")];
    let store = store_with(&variables, &["registry.invalid:5000"]);
    // It answers 404 to what it does not understand, which is a readable name.
    store.check_read("registry.invalid:5000/app").expect("read");
    let seen = proxy.seen("HEAD", "");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "http://registry.invalid:5000/v2/app/manifests/latest");
    assert_eq!(seen[0].headers["host"], "registry.invalid:5000");
    assert_eq!(seen[0].headers["proxy-authorization"], "Basic dXNlcjpwYXNz");
    assert!(!seen[0].headers.contains_key("authorization"));

    // Not for this machine, and not where NO_PROXY says so.
    let fake = Fake::start();
    let direct = store_with(&[("HTTP_PROXY", &url), ("HTTPS_PROXY", &url)], &[]);
    direct.check_read(&format!("{}/app", fake.address)).expect("read");
    assert_eq!(fake.seen("HEAD", "/manifests/").len(), 1);
    assert_eq!(proxy.seen("HEAD", "").len(), 1);
}

/// A name that nobody needs to be asked about: its first part is too long for one.
fn no_host() -> String {
    format!("{}.invalid", "x".repeat(64))
}

#[test]
fn names_that_do_not_resolve() {
    let host = no_host();
    for insecure in [vec![], vec![host.as_str()]] {
        let store = store_with(&[], &insecure);
        for attempts in [" (2 attempts)", ""] {
            let error = store.check_read(&format!("{host}/app")).expect_err("no such host");
            assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
            let expected = if insecure.is_empty() {
                format!(": GET https://{host}/v2/{attempts}: no such host: {host}")
            } else {
                let https = format!(": GET https://{host}/v2/: no such host: {host}");
                format!("{https}; GET http://{host}/v2/{attempts}: no such host: {host}")
            };
            assert!(chain(&error).ends_with(&expected), "{}", chain(&error));
        }
    }
}

#[test]
fn proxies_that_are_not_there() {
    let (host, closed) = (no_host(), ClosedPort::take());
    for (proxy, name, cause) in [
        (format!("http://user:hunter2@{}", closed.address), &closed.address, "refused"),
        (format!("http://user:hunter2@{host}:3128"), &format!("{host}:3128"), "no such host"),
        (format!("socks5://user:hunter2@{}", closed.address), &closed.address, "refused"),
    ] {
        for insecure in [vec![], vec!["registry.invalid"]] {
            let store = store_with(&[("HTTPS_PROXY", &proxy), ("HTTP_PROXY", &proxy)], &insecure);
            let error = chain(&store.check_read("registry.invalid/app").expect_err("no proxy"));
            assert!(error.contains("GET https://registry.invalid/v2/"), "{error}");
            assert!(error.contains(&format!(": via proxy {name}: ")) && error.contains(cause), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn socks_proxies_find_the_target_themselves() {
    let (sender, asked) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut greeting = [0; 3];
            let mut target = [0; 4 + 1 + 16 + 2];
            let _ = stream.read_exact(&mut greeting);
            let _ = stream.write_all(&[5, 0]);
            let _ = stream.read_exact(&mut target);
            let _ = sender.send(target);
            let _ = stream.write_all(&[5, 4]);
        }
    });
    for scheme in ["socks5", "socks5h"] {
        let store = store_with(&[("HTTPS_PROXY", &format!("{scheme}://{address}"))], &[]);
        let error = chain(&store.check_read("registry.invalid/app").expect_err("unreachable"));
        assert!(error.contains(&format!("via proxy {address}: host unreachable")), "{error}");
        let expected = [&[5, 1, 0, 3, 16][..], b"registry.invalid", &443_u16.to_be_bytes()].concat();
        assert_eq!(asked.recv_timeout(Duration::from_secs(5)).expect("asked").as_slice(), expected, "{scheme}");
        while asked.try_recv().is_ok() {}
    }
}

#[test]
fn a_registry_that_was_waited_for_is_not_waited_for_again() {
    let closed = ClosedPort::take();
    let store = store();
    let attempts = |text: &str| text.contains("(3 attempts)");
    let name = format!("{}/app", closed.address);
    assert!(attempts(&chain(&store.check_read(&name).expect_err("nobody"))));
    assert!(!chain(&store.check_read(&name).expect_err("nobody")).contains("attempts"));
}

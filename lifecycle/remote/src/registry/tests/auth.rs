//! Proving who we are, and to whom.

use lifecycle::image::{Draft, Store, StoreError};

use super::fake::{Auth, Fake, Fault, refuse};
use super::{chain, image, layer, noise, platform, store, store_with};

const BASIC: &str = "Basic dTpw";

fn auth_for(address: &str, header: &str) -> String {
    format!(r#"{{"{address}":"{header}"}}"#)
}

/// No request but those to the token server had one of these headers.
fn assert_nothing_leaked(fake: &Fake) {
    for seen in &fake.state().seen {
        assert!(!seen.headers.contains_key("authorization"), "{seen:?}");
    }
}

#[test]
fn tokens_are_asked_for_once_for_each_scope() {
    let dir = tempfile::tempdir().expect("a directory");
    let fake = Fake::start();
    fake.state().auth = Auth::Bearer { realm: None, wants: Some(BASIC) };
    let variable = auth_for(&fake.address, BASIC);
    let store = store_with(&[("CNB_REGISTRY_AUTH", &variable)], &[]);
    let image = image(&[layer(dir.path(), &noise(300_000)), layer(dir.path(), b"small")]);
    let name = format!("{}/app", fake.address);
    store.push(&name, &[]).expect("a push begins").finish(&image).expect("pushed").names[0].1.as_ref().expect("pushed");
    let tokens = fake.seen("GET", "/token");
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert!(tokens[0].path.contains("service=fake") && tokens[0].path.contains("scope=repository%3Aapp%3Apull%2Cpush"));
    assert_eq!(tokens[0].headers["authorization"], BASIC);
    for seen in fake.seen("", "/v2/") {
        assert!(seen.headers.get("authorization").is_none_or(|header| header.starts_with("Bearer ")), "{seen:?}");
    }

    // Mounting asks for the source, too.
    let opened = store.open(&name, &platform("amd64")).expect("opened");
    let image = Draft::based_on(opened).finish().expect("an image");
    let pushed =
        store.push(&format!("{}/other", fake.address), &[]).expect("a push begins").finish(&image).expect("pushed");
    pushed.names[0].1.as_ref().expect("pushed");
    let both = fake.seen("GET", "/token").into_iter().filter(|seen| {
        seen.path.contains("repository%3Aapp%3Apull&") && seen.path.contains("repository%3Aother%3Apull%2Cpush")
    });
    assert_eq!(both.count(), 1);
}

#[test]
fn tokens_that_have_ended_are_renewed_in_the_middle() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = noise(300_000);
    for at in 0..12 {
        let fake = Fake::start();
        fake.state().auth = Auth::Bearer { realm: None, wants: None };
        let image = image(&[layer(dir.path(), &content)]);
        let store = store();
        let name = format!("{}/app", fake.address);
        let push = store.push(&name, &[]).expect("a push begins");
        // All tokens end when this many requests have come.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while fake.state().seen.len() < at {
                    std::thread::yield_now();
                }
                fake.state().tokens.clear();
            });
            let pushed = push.finish(&image).expect("pushed");
            pushed.names[0].1.as_ref().unwrap_or_else(|error| panic!("{at}: {}", chain(error)));
            // So that the other thread ends, however few requests there were.
            while fake.state().seen.len() < at {
                store.check_read(&name).expect("read");
            }
        });
    }
}

#[test]
fn a_refusal_is_believed_the_second_time() {
    let fake = Fake::start();
    let name = format!("{}/app", fake.address);
    // Tokens that are good for nothing.
    fake.state().auth = Auth::Bearer { realm: None, wants: None };
    for _ in 0..9 {
        let body = r#"{"token":"useless"}"#.to_owned();
        fake.fail("GET", "/token", Fault::Answer(200, vec![], body));
    }
    let error = store().open(&name, &platform("amd64")).expect_err("refused");
    assert!(matches!(error, StoreError::Unauthorized { told: Some(_), .. }), "{error:?}");
    assert_eq!(fake.seen("GET", "/manifests/").len(), 2);
    // A fixed token is not asked for, and not sent again.
    let variable = auth_for(&fake.address, "Bearer fixed");
    let before = fake.seen("GET", "/token").len();
    let error =
        store_with(&[("CNB_REGISTRY_AUTH", &variable)], &[]).open(&name, &platform("amd64")).expect_err("refused");
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    assert_eq!(fake.seen("GET", "/token").len(), before);
    assert_eq!(fake.seen("GET", "/manifests/").len(), 3);
    assert_eq!(fake.seen("GET", "/manifests/")[2].headers["authorization"], "Bearer fixed");
}

#[test]
fn an_identity_token_is_exchanged() {
    let fake = Fake::start();
    fake.state().auth = Auth::Bearer { realm: None, wants: Some("refresh_token=id%20entity") };
    let variable = auth_for(&fake.address, "X-Identity id entity");
    let store = store_with(&[("CNB_REGISTRY_AUTH", &variable)], &[]);
    store.check_write(&format!("{}/app", fake.address)).expect("written");
    let asked = fake.seen("POST", "/token");
    assert_eq!(asked.len(), 1);
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(
        form.contains("grant_type=refresh_token") && form.contains("scope=repository%3Aapp%3Apull%2Cpush"),
        "{form}"
    );
    assert!(!asked[0].headers.contains_key("authorization"));
}

#[test]
fn token_servers_that_fail() {
    type Check = fn(&StoreError) -> bool;
    let failed: Check = |error| matches!(error, StoreError::Failed { .. });
    let cases: [(Fault, Check); 7] = [
        (Fault::Answer(401, vec![], r#"{"details":"wrong"}"#.to_owned()), |error| {
            matches!(error, StoreError::Unauthorized { told: None, .. })
        }),
        (refuse(401, "UNAUTHORIZED"), |error| matches!(error, StoreError::Unauthorized { told: Some(_), .. })),
        (refuse(403, "DENIED"), |error| matches!(error, StoreError::Forbidden { .. })),
        // Not the image is missing, but the token server.
        (Fault::Answer(404, vec![], String::new()), failed),
        (refuse(503, "X"), failed),
        (Fault::Answer(200, vec![], "{}".to_owned()), failed),
        (Fault::Huge(2 << 20), failed),
    ];
    for (fault, check) in cases {
        let fake = Fake::start();
        fake.state().auth = Auth::Bearer { realm: None, wants: None };
        for _ in 0..9 {
            fake.fail("GET", "/token", fault.clone());
        }
        let error = store().open(&format!("{}/app", fake.address), &platform("amd64")).expect_err("no token");
        assert!(check(&error), "{error:?}");
    }
    // Passing faults are lived through.
    for fault in [refuse(503, "X"), Fault::CutBefore, Fault::CutAfter, Fault::Truncated(2), Fault::Stalled] {
        let fake = Fake::start();
        fake.state().auth = Auth::Bearer { realm: None, wants: None };
        fake.fail("GET", "/token", fault);
        store().check_read(&format!("{}/app", fake.address)).expect("read");
    }
}

#[test]
fn unusable_realms() {
    for realm in ["", "no url", "ftp://x/token", "https://"] {
        let fake = Fake::start();
        fake.state().auth = Auth::Bearer { realm: Some(realm.to_owned()), wants: None };
        let error = store().check_read(&format!("{}/app", fake.address)).expect_err(realm);
        assert!(!matches!(error, StoreError::NotFound { .. }), "{realm}: {error:?}");
    }
}

#[test]
fn credentials_do_not_follow_redirects_to_others() {
    let (fake, other) = (Fake::start(), Fake::start());
    fake.state().auth = Auth::Basic(BASIC);
    let variable = auth_for(&fake.address, BASIC);
    let store = store_with(&[("CNB_REGISTRY_AUTH", &variable)], &[]);
    let dir = tempfile::tempdir().expect("a directory");
    let content = noise(200_000);
    let image = image(&[layer(dir.path(), &content)]);
    let name = format!("{}/app", fake.address);
    store.push(&name, &[]).expect("a push begins").finish(&image).expect("pushed").names[0].1.as_ref().expect("pushed");
    // Blobs are elsewhere, as with most registries in a cloud.
    other.put_blob("elsewhere", &content);
    let digest = image.manifest.layers[0].digest;
    let elsewhere = format!("http://{}/v2/elsewhere/blobs/{digest}?signature=s", other.address);
    let redirect = |status| Fault::Answer(status, vec![("Location", elsewhere.clone())], String::new());
    for status in [301, 302, 303, 307, 308] {
        fake.fail("GET", &digest.to_string(), redirect(status));
        let layer = &store.open(&name, &platform("amd64")).expect("opened").layers[0];
        let mut reader = store.read_blob(layer).expect("a blob");
        std::io::copy(&mut reader, &mut std::io::sink()).expect("read");
    }
    assert_eq!(other.seen("GET", "signature=s").len(), 5);
    // A store elsewhere that asks who we are, or refuses, is told nothing.
    fake.fail("GET", &digest.to_string(), redirect(307));
    other.state().auth = Auth::Basic(BASIC);
    let layer = &store.open(&name, &platform("amd64")).expect("opened").layers[0];
    assert!(store.read_blob(layer).is_err_and(|error| matches!(error, StoreError::Unauthorized { .. })));
    assert_nothing_leaked(&other);
    other.state().auth = Auth::None;

    // An upload whose Location is elsewhere.
    let second = super::layer(dir.path(), b"second");
    let location = format!("http://{}/v2/app/blobs/uploads/there", other.address);
    other.state().uploads.insert("there".to_owned(), Vec::new());
    fake.fail("POST", "/blobs/uploads/", Fault::Answer(202, vec![("Location", location)], String::new()));
    store.push(&name, &[]).expect("a push begins").layer(&second).expect("sent");
    assert_eq!(other.seen("PUT", "/uploads/there").len(), 1);
    assert_nothing_leaked(&other);
}

#[test]
fn redirects_end() {
    let fake = Fake::start();
    for _ in 0..50 {
        fake.fail(
            "GET",
            "/manifests/",
            Fault::Answer(307, vec![("Location", "/v2/app/manifests/latest".to_owned())], String::new()),
        );
    }
    let error = store().open(&format!("{}/app", fake.address), &platform("amd64")).expect_err("a loop");
    assert!(chain(&error).contains("redirects"), "{}", chain(&error));
    assert!(fake.seen("GET", "/manifests/").len() <= 11);
    for location in ["ftp://x/", "https://", "http://[::1"] {
        let fake = Fake::start();
        fake.fail("GET", "/manifests/", Fault::Answer(307, vec![("Location", location.to_owned())], String::new()));
        store().open(&format!("{}/app", fake.address), &platform("amd64")).expect_err(location);
    }
}

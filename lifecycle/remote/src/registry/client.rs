//! One registry: how it is reached, and requests to it with proof, retries and a second try after a 401.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::http::Method;
use ureq::http::header::{self, HeaderMap, HeaderName};

use super::challenge::{Bearer, Challenge};
use super::error::{CallError, told, told_in_any_way};
use super::plain::Plain;
use super::retry::{Attempts, Patience, is_temporary, retry_after};
use super::token::{Authorizer, Proof, Scopes, TokenRequest};
use crate::credentials::{CredentialError, Keychain};
use crate::secret::Secret;
use crate::tls::Trust;
use crate::transport::{Body, Exchange, ExchangeError, Limits, Response, Transport};
use crate::url::{Scheme, Url};

/// Largest answer of a token server.
const TOKEN_LIMIT: u64 = 1 << 20;

/// As much of an error body is read.
const ERROR_LIMIT: u64 = 64 << 10;

/// A registry as it is used.
pub(super) struct Client {
    /// Host and port.
    pub(super) registry: String,
    pub(super) plain: Plain,
    pub(super) transport: Arc<Transport>,
    pub(super) patience: Patience,
    keychain: Arc<Keychain>,
    /// How it is spoken to, once that is decided.
    pub(super) scheme: Mutex<Option<Scheme>>,
    pub(super) authorizer: Mutex<Authorizer>,
    /// It was waited for in vain.
    pub(super) given_up: AtomicBool,
    /// It does not answer `Expect: 100-continue`.
    ignores_expect: AtomicBool,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A path at the registry, beginning with `/v2/`.
    Path(String),
    /// Where the registry has sent us.
    Url(Url),
}

/// A request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) scopes: &'a Scopes,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Body<'a>,
    /// Ask before the body is sent, if the registry answers such questions.
    pub(super) expect: bool,
    pub(super) limits: Limits,
    /// Statuses that are an answer; others are errors.
    pub(super) expected: &'a [u16],
    /// Do not repeat it after a failure: the caller does, differently.
    pub(super) once: bool,
}

/// An answer that was read whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What proves who we are.
enum Identity<'a> {
    /// As the registry asks for.
    Scopes(&'a Scopes),
    /// Exactly this.
    Fixed(Option<Secret>),
}

impl Client {
    pub(super) fn new(
        registry: &str,
        plain: Plain,
        transport: Arc<Transport>,
        patience: Patience,
        keychain: Arc<Keychain>,
    ) -> Self {
        Self {
            registry: registry.to_owned(),
            plain,
            transport,
            patience,
            keychain,
            scheme: Mutex::default(),
            authorizer: Mutex::default(),
            given_up: AtomicBool::new(false),
            ignores_expect: AtomicBool::new(false),
        }
    }

    /// Whether the registry's certificate is checked.
    pub(super) fn trust(&self) -> Trust {
        if self.plain == Plain::Named { Trust::Unchecked } else { Trust::Checked }
    }

    /// A request without a body and with usual limits.
    pub(super) fn request<'a>(
        &self,
        method: Method,
        target: Target,
        scopes: &'a Scopes,
        expected: &'a [u16],
    ) -> Request<'a> {
        Request {
            method,
            target,
            scopes,
            headers: Vec::new(),
            body: Body::None,
            expect: false,
            limits: self.transport.limits(),
            expected,
            once: false,
        }
    }

    /// Sends a request and reads the answer, of at most `limit` bytes.
    pub(super) fn call(&self, request: &Request<'_>, limit: u64) -> Result<Answer, CallError> {
        self.perform(request, &Identity::Scopes(request.scopes), &|response| {
            let (status, headers, url) = (response.status, response.headers.clone(), response.url.clone());
            Ok(Answer { status, headers, url, body: response.bytes(limit)? })
        })
    }

    /// Sends a request; the answer is still to be read.
    pub(super) fn stream(&self, request: &Request<'_>) -> Result<Response, CallError> {
        self.perform(request, &Identity::Scopes(request.scopes), &|response| Ok(response))
    }

    fn perform<T>(
        &self,
        request: &Request<'_>,
        identity: &Identity<'_>,
        read: &dyn Fn(Response) -> Result<T, ExchangeError>,
    ) -> Result<T, CallError> {
        let method = &request.method;
        let base = Url::new(self.scheme()?, &self.registry, "/v2/");
        let url = match &request.target {
            Target::Path(path) => Url::new(base.scheme, &self.registry, path),
            Target::Url(url) => url.clone(),
        };
        let own = base.trusts(&url);
        let trust = match (own, identity) {
            // Who does not check the registry's certificate cannot check who names its token server either.
            (true, _) | (false, Identity::Fixed(_)) => self.trust(),
            (false, Identity::Scopes(_)) => Trust::Checked,
        };
        let mut attempts = Attempts::new(&self.patience);
        let mut refusals = 0;
        let mut expect = request.expect && !self.ignores_expect.load(Ordering::Relaxed);
        loop {
            let authorization = match identity {
                Identity::Scopes(scopes) if own => self.authorization(scopes)?,
                Identity::Scopes(_) => None,
                Identity::Fixed(authorization) => authorization.clone(),
            };
            let answer = self.transport.exchange(&Exchange {
                method: method.clone(),
                url: url.clone(),
                trust,
                authorization: authorization.as_ref(),
                headers: &request.headers,
                body: request.body,
                expect,
                limits: request.limits,
            });
            let failed = match answer {
                Ok(response) if request.expected.contains(&response.status) => {
                    self.note_expect(&response);
                    match read(response) {
                        Ok(answer) => return Ok(answer),
                        Err(error) => error,
                    }
                }
                Ok(response) => {
                    self.note_expect(&response);
                    let status = response.status;
                    if status == 417 && expect {
                        self.ignores_expect.store(true, Ordering::Relaxed);
                        expect = false;
                        continue;
                    }
                    let challenge = challenge_of(&response.headers);
                    let from_own = base.trusts(&response.url);
                    let error = refusal(method, response);
                    if let (401, Identity::Scopes(scopes), true) = (status, identity, own && from_own) {
                        let ended = matches!(&challenge, Challenge::Bearer(Bearer { error: Some(error), .. }) if error == "invalid_token");
                        let sensible = refusals == 0 || refusals == 1 && ended;
                        refusals += 1;
                        if sensible && self.refused(scopes, authorization.as_ref(), challenge) {
                            continue;
                        }
                    }
                    if request.once || !is_temporary(status) || !attempts.again(error.retry_after()) {
                        return Err(error);
                    }
                    continue;
                }
                Err(error) => error,
            };
            let made = attempts.made();
            log::debug!("{method} {url}: {}", lifecycle_launch::console::chain(&failed));
            if request.once || !attempts.again_after_error(&failed) {
                return Err(CallError::NoAnswer { method: method.clone(), attempts: made, cause: failed });
            }
        }
    }

    fn note_expect(&self, response: &Response) {
        if response.ignores_expect {
            self.ignores_expect.store(true, Ordering::Relaxed);
        }
    }

    fn refused(&self, scopes: &Scopes, used: Option<&Secret>, challenge: Challenge) -> bool {
        let Ok(credential) = self.keychain.get(&self.registry) else { return false };
        let mut authorizer = self.authorizer.lock().unwrap_or_else(PoisonError::into_inner);
        authorizer.refused(credential, scopes, used, challenge)
    }

    /// What proves who we are; gets a token if one is needed. Other threads that need one wait for it.
    fn authorization(&self, scopes: &Scopes) -> Result<Option<Secret>, CallError> {
        let mut authorizer = self.authorizer.lock().unwrap_or_else(PoisonError::into_inner);
        let credential = self.keychain.get(&self.registry)?;
        let asked = match authorizer.proof(credential, scopes) {
            Proof::Header(header) => return Ok(header),
            Proof::Ask(asked) => asked,
        };
        let answer = self.ask_for_token(asked).map_err(|error| match error.status() {
            None | Some(401 | 403) => error,
            Some(_) => CallError::Token { registry: self.registry.clone(), cause: Box::new(error) },
        })?;
        authorizer.accept(scopes, &answer.body).map_err(|what| CallError::Answer {
            method: Method::GET,
            url: Box::new(answer.url),
            what: what.to_owned(),
        })?;
        match authorizer.proof(credential, scopes) {
            Proof::Header(header) => Ok(header),
            // A token that ends before it can be used.
            Proof::Ask(_) => Ok(None),
        }
    }

    fn ask_for_token(&self, asked: TokenRequest) -> Result<Answer, CallError> {
        let registry = || self.registry.clone();
        let realm = Url::parse(&asked.realm).map_err(|cause| CallError::Realm {
            registry: registry(),
            realm: asked.realm.clone(),
            cause,
        })?;
        if self.scheme()? == Scheme::Https && realm.scheme == Scheme::Http {
            return Err(CallError::InsecureRealm { registry: registry(), realm: Box::new(realm) });
        }
        let scopes = Scopes::default();
        let form;
        let (method, url, body, headers) = match asked.form {
            Some(secret) => {
                form = secret;
                let kind = "application/x-www-form-urlencoded".to_owned();
                let body = Body::Bytes(form.reveal().as_bytes());
                (Method::POST, realm, body, vec![(header::CONTENT_TYPE, kind)])
            }
            None => {
                let query = match realm.query.as_deref() {
                    None | Some("") => asked.query,
                    Some(own) => format!("{own}&{}", asked.query),
                };
                (Method::GET, Url { query: Some(query), ..realm }, Body::None, Vec::new())
            }
        };
        let request = Request { headers, body, ..self.request(method, Target::Url(url), &scopes, &[200]) };
        self.perform(&request, &Identity::Fixed(asked.authorization), &|response| {
            let (status, headers, url) = (response.status, response.headers.clone(), response.url.clone());
            Ok(Answer { status, headers, url, body: response.bytes(TOKEN_LIMIT)? })
        })
    }

    /// Fails early where a credential cannot be used.
    pub(super) fn check_credential(&self) -> Result<(), CredentialError> {
        self.keychain.get(&self.registry).map(|_| ())
    }
}

pub(super) fn challenge_of(headers: &HeaderMap) -> Challenge {
    Challenge::of(headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
}

/// The error for an answer that was not hoped for, with what it says in its body.
pub(super) fn refusal(method: &Method, response: Response) -> CallError {
    let (status, url) = (response.status, response.url.clone());
    let retry_after = response.header(header::RETRY_AFTER).and_then(retry_after);
    let body = response.beginning(ERROR_LIMIT);
    // A 401's text decides whether an image counts as absent: only a registry's own kind of text is one.
    let told = if status == 401 { told(&body) } else { told_in_any_way(&body) };
    CallError::Status { method: method.clone(), url: Box::new(url), status, told, retry_after }
}

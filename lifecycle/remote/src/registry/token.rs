//! What is sent to prove who we are: the state of one registry's challenge, and the tokens that answer it
//! (Docker's token and OAuth2 protocols).

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::challenge::{Bearer, Challenge};
use crate::credentials::Credential;
use crate::secret::Secret;
use crate::url::escape;

/// What a request needs, `repository:<name>:pull,push`: sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// To read from a repository.
    pub(super) fn pull(repository: &str) -> Self {
        Self(BTreeSet::from([format!("repository:{repository}:pull")]))
    }

    /// To read from and write to a repository.
    pub(super) fn push(repository: &str) -> Self {
        Self(BTreeSet::from([format!("repository:{repository}:pull,push")]))
    }

    /// To delete in a repository.
    pub(super) fn delete(repository: &str) -> Self {
        Self(BTreeSet::from([format!("repository:{repository}:delete,pull,push")]))
    }

    /// Both.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// What is known of how a registry wants to be spoken to.
#[derive(Debug, Default)]
pub(super) struct Authorizer {
    challenge: Challenge,
    tokens: HashMap<Scopes, Token>,
    /// Scopes that the registry asked for beside those that we knew.
    more: HashMap<Scopes, BTreeSet<String>>,
    /// A newer identity token than the credential's.
    refresh: Option<Secret>,
}

#[derive(Debug)]
struct Token {
    value: Secret,
    ends: Instant,
}

/// What to do for a request.
#[derive(Debug, PartialEq)]
pub(super) enum Proof {
    /// Send this in `Authorization`, or nothing.
    Header(Option<Secret>),
    /// Get a token first.
    Ask(TokenRequest),
}

/// A request to a token server.
#[derive(Debug, PartialEq)]
pub(super) struct TokenRequest {
    pub(super) realm: String,
    /// To be added to the realm's query; empty if `form` is sent.
    pub(super) query: String,
    /// Sent by POST, if it is there.
    pub(super) form: Option<Secret>,
    pub(super) authorization: Option<Secret>,
}

impl Authorizer {
    /// What the registry's greeting asked for.
    pub(super) fn learn(&mut self, challenge: Challenge) {
        self.challenge = challenge;
    }

    /// What proves who we are for a request.
    pub(super) fn proof(&self, credential: Option<&Credential>, scopes: &Scopes) -> Proof {
        match (&self.challenge, credential) {
            (Challenge::None, _) => Proof::Header(None),
            (_, Some(Credential::Bearer(token))) => Proof::Header(Some(bearer(token))),
            (Challenge::Basic, Some(Credential::Basic(value))) => Proof::Header(Some(basic(value))),
            (Challenge::Basic, None | Some(Credential::Identity(_))) => Proof::Header(None),
            (Challenge::Bearer(challenge), _) => match self.tokens.get(scopes) {
                Some(token) if Instant::now() < token.ends => Proof::Header(Some(bearer(&token.value))),
                _ => Proof::Ask(self.ask(challenge, credential, scopes)),
            },
        }
    }

    fn ask(&self, challenge: &Bearer, credential: Option<&Credential>, scopes: &Scopes) -> TokenRequest {
        let more = self.more.get(scopes).into_iter().flatten();
        // What the registry asked for goes first: some token servers look at nothing else.
        let all: Vec<&String> = more.chain(&scopes.0).collect();
        let identity = match (&self.refresh, credential) {
            (Some(token), _) | (None, Some(Credential::Identity(token))) => Some(token),
            _ => None,
        };
        let service = challenge.service.as_deref().unwrap_or_default();
        if let Some(token) = identity {
            let joined = all.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
            let form = format!(
                "grant_type=refresh_token&client_id=lifecycle&service={}&scope={}&refresh_token={}",
                escape(service),
                escape(&joined),
                escape(token.reveal())
            );
            let form = Some(Secret::new(form));
            return TokenRequest { realm: challenge.realm.clone(), query: String::new(), form, authorization: None };
        }
        let mut query: Vec<String> = all.iter().map(|scope| format!("scope={}", escape(scope))).collect();
        if !service.is_empty() {
            query.push(format!("service={}", escape(service)));
        }
        let authorization = match credential {
            Some(Credential::Basic(value)) => Some(basic(value)),
            _ => None,
        };
        TokenRequest { realm: challenge.realm.clone(), query: query.join("&"), form: None, authorization }
    }

    /// Takes a token server's answer; what is wrong with it otherwise.
    pub(super) fn accept(&mut self, scopes: &Scopes, body: &[u8]) -> Result<(), &'static str> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            refresh_token: Option<String>,
            expires_in: Option<f64>,
        }
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "the answer is not JSON of the kind expected")?;
        let set = |text: Option<String>| text.filter(|text| !text.is_empty());
        let value = set(answer.access_token).or(set(answer.token)).ok_or("the answer has no token")?;
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err("the token has characters that a header cannot have");
        }
        if let Some(refresh) = set(answer.refresh_token) {
            self.refresh = Some(Secret::new(refresh));
        }
        // One minute unless stated otherwise; renewed a little earlier than necessary.
        let seconds = answer.expires_in.filter(|seconds| *seconds > 0.0).unwrap_or(60.0).min(86_400.0);
        let ends = Instant::now() + Duration::from_secs_f64(seconds * 0.8);
        self.tokens.insert(scopes.clone(), Token { value: Secret::new(value), ends });
        Ok(())
    }

    /// After a 401 to a request that was sent with `used`: whether trying again makes sense.
    pub(super) fn refused(
        &mut self,
        credential: Option<&Credential>,
        scopes: &Scopes,
        used: Option<&Secret>,
        challenge: Challenge,
    ) -> bool {
        if let Challenge::Bearer(Bearer { scope: Some(scope), .. }) = &challenge {
            let new = scope.split(' ').filter(|scope| !scope.is_empty() && !scopes.0.contains(*scope));
            self.more.entry(scopes.clone()).or_default().extend(new.map(str::to_owned));
        }
        // Another thread may have got a newer token meanwhile.
        if self.tokens.get(scopes).is_some_and(|token| used == Some(&bearer(&token.value))) {
            self.tokens.remove(scopes);
        }
        match challenge {
            // It forgot to say what it wants, but had said so before.
            Challenge::None => {}
            other => self.challenge = other,
        }
        match self.proof(credential, scopes) {
            Proof::Header(header) => header.is_some() && header.as_ref() != used,
            Proof::Ask(_) => true,
        }
    }
}

fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.reveal()))
}

fn basic(value: &Secret) -> Secret {
    Secret::new(format!("Basic {}", value.reveal()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenged(scope: Option<&str>) -> Challenge {
        let (service, scope) = (Some("a reg".to_owned()), scope.map(str::to_owned));
        Challenge::Bearer(Bearer { realm: "https://auth/token".to_owned(), service, scope, error: None })
    }

    fn asked(proof: Proof) -> TokenRequest {
        match proof {
            Proof::Ask(request) => request,
            Proof::Header(header) => panic!("a token request instead of {header:?}"),
        }
    }

    fn header(text: &str) -> Proof {
        Proof::Header(Some(Secret::new(text)))
    }

    #[test]
    fn what_is_sent() {
        let basic = Credential::Basic(Secret::new("dTpw"));
        let fixed = Credential::Bearer(Secret::new("t"));
        let identity = Credential::Identity(Secret::new("i d"));
        let scopes = Scopes::pull("a");
        let mut authorizer = Authorizer::default();
        assert_eq!(authorizer.proof(Some(&basic), &scopes), Proof::Header(None));
        authorizer.learn(Challenge::Basic);
        assert_eq!(authorizer.proof(Some(&basic), &scopes), header("Basic dTpw"));
        assert_eq!(authorizer.proof(Some(&fixed), &scopes), header("Bearer t"));
        assert_eq!(authorizer.proof(Some(&identity), &scopes), Proof::Header(None));
        assert_eq!(authorizer.proof(None, &scopes), Proof::Header(None));
        authorizer.learn(challenged(None));
        assert_eq!(authorizer.proof(Some(&fixed), &scopes), header("Bearer t"));
        let request = asked(authorizer.proof(Some(&basic), &scopes));
        assert_eq!(request.query, "scope=repository%3Aa%3Apull&service=a%20reg");
        assert_eq!((request.authorization, request.form), (Some(Secret::new("Basic dTpw")), None));
        let request = asked(authorizer.proof(None, &Scopes::push("a").and(Scopes::pull("b"))));
        assert_eq!(request.query, "scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull&service=a%20reg");
        assert_eq!(request.authorization, None);
        let request = asked(authorizer.proof(Some(&identity), &scopes));
        let form = "grant_type=refresh_token&client_id=lifecycle&service=a%20reg&scope=repository%3Aa%3Apull&refresh_token=i%20d";
        assert_eq!(
            (request.form, request.query, request.authorization),
            (Some(Secret::new(form)), String::new(), None)
        );
    }

    #[test]
    fn tokens_are_kept_by_scope_until_refused() {
        let scopes = Scopes::pull("a");
        let mut authorizer = Authorizer::default();
        authorizer.learn(challenged(None));
        authorizer.accept(&scopes, br#"{"token":"one","expires_in":300}"#).expect("a token");
        assert_eq!(authorizer.proof(None, &scopes), header("Bearer one"));
        asked(authorizer.proof(None, &Scopes::pull("b")));
        // A refusal of an older token leaves the newer one.
        assert!(authorizer.refused(None, &scopes, Some(&Secret::new("Bearer zero")), challenged(None)));
        assert_eq!(authorizer.proof(None, &scopes), header("Bearer one"));
        assert!(authorizer.refused(None, &scopes, Some(&Secret::new("Bearer one")), challenged(Some("x:y:z"))));
        assert!(asked(authorizer.proof(None, &scopes)).query.starts_with("scope=x%3Ay%3Az&scope=repository"));
        // A refresh token from the answer is used from then on.
        authorizer.accept(&scopes, br#"{"access_token":"two","token":"no","refresh_token":"r"}"#).expect("a token");
        assert_eq!(authorizer.proof(None, &scopes), header("Bearer two"));
        assert!(asked(authorizer.proof(None, &Scopes::pull("b"))).form.is_some());
        // One that ends at once is not used.
        authorizer.accept(&scopes, br#"{"token":"three","expires_in":0.000001}"#).expect("a token");
        std::thread::sleep(Duration::from_millis(1));
        asked(authorizer.proof(None, &scopes));
    }

    #[test]
    fn refusals_that_end() {
        let scopes = Scopes::pull("a");
        let basic = Credential::Basic(Secret::new("dTpw"));
        let fixed = Credential::Bearer(Secret::new("t"));
        let mut authorizer = Authorizer::default();
        assert!(!authorizer.refused(Some(&basic), &scopes, None, Challenge::None));
        assert!(authorizer.refused(Some(&basic), &scopes, None, Challenge::Basic));
        assert!(!authorizer.refused(Some(&basic), &scopes, Some(&Secret::new("Basic dTpw")), Challenge::Basic));
        assert!(!authorizer.refused(None, &scopes, None, Challenge::Basic));
        assert!(authorizer.refused(Some(&fixed), &scopes, None, challenged(None)));
        assert!(!authorizer.refused(Some(&fixed), &scopes, Some(&Secret::new("Bearer t")), challenged(None)));
    }

    #[test]
    fn unusable_answers() {
        for body in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":1}"#, r#"{"token":"a\nb"}"#] {
            assert!(Authorizer::default().accept(&Scopes::pull("a"), body.as_bytes()).is_err(), "{body}");
        }
    }
}

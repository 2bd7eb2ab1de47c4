//! `WWW-Authenticate`: what a registry asks for (RFC 9110, section 11; Docker's token protocol).

/// What a registry wants with each request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Nothing, or nothing that we know.
    #[default]
    None,
    /// User and password.
    Basic,
    /// A token that `realm` gives.
    Bearer(Bearer),
}

/// Where tokens come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    /// What the refused request would have needed.
    pub(super) scope: Option<String>,
    /// Why a token was refused: `invalid_token`.
    pub(super) error: Option<String>,
}

impl Challenge {
    /// The first of an answer's challenges that we can meet.
    pub(super) fn of<'a>(headers: impl IntoIterator<Item = &'a str>) -> Self {
        for header in headers {
            for (scheme, parameters) in parse(header) {
                let get = |name: &str| {
                    parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
                };
                if scheme.eq_ignore_ascii_case("basic") {
                    return Self::Basic;
                }
                if let Some(realm) = get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer")) {
                    let (service, scope, error) = (get("service"), get("scope"), get("error"));
                    return Self::Bearer(Bearer { realm, service, scope, error });
                }
            }
        }
        Self::None
    }
}

type Parameters = Vec<(String, String)>;

/// Splits `scheme name=value, name="value", scheme …`.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches(' ');
        match (after.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some((_, parameters))) if !word.is_empty() => {
                let (value, after) = parse_value(value.trim_start_matches(' '));
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            // A value without a name or a scheme.
            (Some(value), _) => rest = parse_value(value).1,
            (None, _) => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or quoted text, and what follows.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer(Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope), error: None })
    }

    #[test]
    fn challenges() {
        for (headers, expected) in [
            (vec![], Challenge::None),
            (vec![""], Challenge::None),
            (vec!["Basic realm=\"x\""], Challenge::Basic),
            (vec!["basic"], Challenge::Basic),
            (vec!["Negotiate"], Challenge::None),
            (vec!["Negotiate", "Basic realm=x"], Challenge::Basic),
            (vec!["Negotiate, Basic realm=x"], Challenge::Basic),
            (
                vec![r#"Bearer realm="https://auth/token?a=b,c",service="reg",scope="repository:a:pull,push""#],
                bearer("https://auth/token?a=b,c", Some("reg"), Some("repository:a:pull,push")),
            ),
            (vec![r#"bearer REALM=https://a , Service = "x\"y""#], bearer("https://a", Some("x\"y"), None)),
            (vec![r#"Bearer service="reg""#], Challenge::None),
            (vec![r#"Bearer realm="https://a"#], bearer("https://a", None, None)),
            (vec!["=x, =,\"", "\"\"\"", "Bearer =\"x\""], Challenge::None),
        ] {
            assert_eq!(Challenge::of(headers.iter().copied()), expected, "{headers:?}");
        }
        let Challenge::Bearer(found) = Challenge::of([r#"Bearer realm="r",error="invalid_token""#]) else {
            panic!("a bearer challenge");
        };
        assert_eq!(found.error.as_deref(), Some("invalid_token"));
    }
}

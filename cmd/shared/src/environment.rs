//! How inputs are read from environment variables: an empty variable is an unset one, and a value that is not of the
//! expected kind is as if it were not there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::grammar::boolean;

/// The variables of a process, taken once, so that resolving inputs is a function of values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// This process's.
    pub(crate) fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.to_str()
    }

    /// False for anything but the words of [`boolean`].
    pub(crate) fn boolean(&self, name: &str) -> bool {
        self.text(name).and_then(boolean).unwrap_or(false)
    }

    /// Decimal; 0 for anything else.
    pub(crate) fn integer(&self, name: &str) -> i64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Separated by commas.
    pub(crate) fn list(&self, name: &str) -> Vec<OsString> {
        self.text(name).into_iter().flat_map(|text| text.split(',')).map(OsString::from).collect()
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset_and_another_kind_is_not_there() {
        let environment: Environment =
            [("EMPTY", ""), ("WORD", "yes"), ("TRUE", "T"), ("NUMBER", "1000"), ("HEX", "0x10"), ("LIST", "a,b,,")]
                .map(|(name, value)| (name.into(), value.into()))
                .into_iter()
                .collect();
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.get("WORD"), Some(OsStr::new("yes")));
        assert_eq!(
            ["EMPTY", "WORD", "TRUE", "NONE"].map(|name| environment.boolean(name)),
            [false, false, true, false]
        );
        assert_eq!(["NUMBER", "HEX", "WORD", "NONE"].map(|name| environment.integer(name)), [1000, 0, 0, 0]);
        assert_eq!(environment.list("LIST"), ["a", "b", "", ""]);
        assert!(environment.list("EMPTY").is_empty() && environment.list("NONE").is_empty());
    }
}

//! An image's config: a JSON document that is edited in place.
//!
//! Base images carry keys that no specification lists (`Healthcheck`, `OnBuild`, `moby.buildkit.…`); a type with a
//! field for each key would lose them. So the document stays one, and what concerns us is read and changed in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::json::{self, Key, Schema, Zero};
use crate::digest::Digest;

/// The document. Unknown keys are kept; it is written in the order in which Go's tools write it, known keys without
/// a value left out. The bytes of a config that was read and not changed are those that were read.
#[derive(Clone, Debug)]
pub struct Config {
    document: Map<String, Value>,
    bytes: Option<Vec<u8>>,
}

/// One entry of a config's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Who made the layer.
    pub author: String,
    /// When, RFC 3339.
    pub created: String,
    /// What made it.
    pub created_by: String,
    /// A comment.
    pub comment: String,
    /// Whether there is no layer for it.
    pub empty_layer: bool,
}

/// Bytes that are not a usable config.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not JSON, or not an object.
    #[error("unusable config: {0}")]
    Json(String),
    /// A value is not what it has to be.
    #[error("unusable config: {key} is not {expected}")]
    Key {
        /// Which: `rootfs.diff_ids[2]`.
        key: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl From<&str> for History {
    /// An entry that says what made the layer.
    fn from(created_by: &str) -> Self {
        Self { created_by: created_by.to_owned(), ..Self::default() }
    }
}

impl From<String> for History {
    fn from(created_by: String) -> Self {
        Self { created_by, ..Self::default() }
    }
}

/// Two configs are equal if they say the same, however it is laid out.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document
    }
}

impl Config {
    /// Of an image without layers.
    pub fn empty(os: &str, architecture: &str, variant: &str) -> Self {
        let mut config = Self { document: Map::new(), bytes: None };
        for (key, value) in [("os", os), ("architecture", architecture), ("variant", variant)] {
            if !value.is_empty() {
                config.document.insert(key.to_owned(), value.into());
            }
        }
        config.set_diff_ids(&[]);
        config
    }

    /// Reads a config. The parts that are used here must have the right types; all else may be anything.
    /// The caller limits how many bytes it reads.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let mut document: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| ConfigError::Json(error.to_string()))?;
        check(&document)?;
        // As Go reads it: a label without a value has an empty one.
        let labels =
            document.get_mut("config").and_then(|config| config.get_mut("Labels")).and_then(Value::as_object_mut);
        for value in labels.into_iter().flatten().map(|(_, value)| value).filter(|value| value.is_null()) {
            *value = "".into();
        }
        Ok(Self { document, bytes: Some(bytes) })
    }

    /// The bytes: those that were read, or if it was made or changed, what Go's tools would write.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.bytes {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(json::write(&self.document, &CONFIG)),
        }
    }

    /// The whole document, to read.
    pub fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// The whole document, to change what has no method of its own.
    pub fn document_mut(&mut self) -> &mut Map<String, Value> {
        self.bytes = None;
        &mut self.document
    }

    fn text(&self, key: &str) -> &str {
        self.document.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Processor architecture in GOARCH's words; empty if it is not stated.
    pub fn architecture(&self) -> &str {
        self.text("architecture")
    }

    /// Operating system; empty if it is not stated.
    pub fn os(&self) -> &str {
        self.text("os")
    }

    /// Variant of the architecture; empty if it is not stated.
    pub fn variant(&self) -> &str {
        self.text("variant")
    }

    /// When it was made, RFC 3339; empty if it is not stated.
    pub fn created(&self) -> &str {
        self.text("created")
    }

    /// Sets when it was made, RFC 3339.
    pub fn set_created(&mut self, time: &str) {
        self.document_mut().insert("created".to_owned(), time.into());
    }

    /// Digests of its layers' tars, from the bottom up.
    pub fn diff_ids(&self) -> Vec<Digest> {
        let ids = self.document.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
        // `parse` has refused any that is no digest.
        ids.into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok()).collect()
    }

    pub(super) fn set_diff_ids(&mut self, ids: &[Digest]) {
        let ids: Value = ids.iter().map(Digest::to_string).collect();
        let mut rootfs = Map::new();
        rootfs.insert("type".to_owned(), "layers".into());
        rootfs.insert("diff_ids".to_owned(), ids);
        self.document_mut().insert("rootfs".to_owned(), rootfs.into());
    }

    /// How its layers came about; also entries without a layer.
    pub fn history(&self) -> Vec<History> {
        let entries = self.document.get("history").and_then(Value::as_array);
        entries.into_iter().flatten().map(History::from_json).collect()
    }

    pub(super) fn set_history(&mut self, entries: &[History]) {
        let entries: Value = entries.iter().map(History::to_json).collect();
        self.document_mut().insert("history".to_owned(), entries);
    }

    fn run(&self, key: &str) -> Option<&Value> {
        self.document.get("config")?.get(key)
    }

    /// `config`, made if it is missing.
    fn run_mut(&mut self) -> &mut Map<String, Value> {
        let config = self.document_mut().entry("config").or_insert(Value::Null);
        if !config.is_object() {
            *config = Value::Object(Map::new());
        }
        config.as_object_mut().expect("made an object just above")
    }

    fn run_text(&self, key: &str) -> &str {
        self.run(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn run_list(&self, key: &str) -> Vec<&str> {
        self.run(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn set_run_list(&mut self, key: &str, list: &[&str]) {
        let list: Value = list.iter().copied().collect();
        self.run_mut().insert(key.to_owned(), list);
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.run("Labels")?.get(name)?.as_str()
    }

    /// All labels, sorted by name.
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        let labels = self.run("Labels").and_then(Value::as_object);
        labels.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }

    /// Sets a label.
    pub fn set_label(&mut self, name: &str, value: &str) {
        let labels = self.run_mut().entry("Labels").or_insert(Value::Null);
        match labels {
            Value::Object(labels) => {
                labels.insert(name.to_owned(), value.into());
            }
            other => *other = Value::Object([(name.to_owned(), value.into())].into_iter().collect()),
        }
    }

    /// Removes a label, if it is there.
    pub fn remove_label(&mut self, name: &str) {
        if self.label(name).is_some()
            && let Some(labels) = self.run_mut().get_mut("Labels").and_then(Value::as_object_mut)
        {
            labels.remove(name);
        }
    }

    /// Environment variables, `NAME=value`, in their order.
    pub fn env(&self) -> Vec<&str> {
        self.run_list("Env")
    }

    /// The value of an environment variable: all after the first `=`.
    pub fn env_var(&self, name: &str) -> Option<&str> {
        self.env()
            .into_iter()
            .find_map(|entry| entry.split_once('=').filter(|(found, _)| *found == name))
            .map(|(_, v)| v)
    }

    /// Sets an environment variable: in its place if it is there, else after all others.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = Value::from(format!("{name}={value}"));
        let is_it = |entry: &Value| {
            entry.as_str().is_some_and(|text| text.split_once('=').map_or(text, |(found, _)| found) == name)
        };
        match self.run_mut().entry("Env").or_insert(Value::Null) {
            Value::Array(entries) => match entries.iter_mut().find(|entry| is_it(entry)) {
                Some(found) => *found = entry,
                None => entries.push(entry),
            },
            other => *other = Value::Array(vec![entry]),
        }
    }

    /// The program that is always started.
    pub fn entrypoint(&self) -> Vec<&str> {
        self.run_list("Entrypoint")
    }

    /// Sets the program that is always started; an empty one is none.
    pub fn set_entrypoint(&mut self, entrypoint: &[&str]) {
        self.set_run_list("Entrypoint", entrypoint);
    }

    /// The default arguments, or the default program.
    pub fn cmd(&self) -> Vec<&str> {
        self.run_list("Cmd")
    }

    /// Sets the default arguments; empty ones are none.
    pub fn set_cmd(&mut self, cmd: &[&str]) {
        self.set_run_list("Cmd", cmd);
    }

    /// The directory in which the program starts.
    pub fn working_dir(&self) -> &str {
        self.run_text("WorkingDir")
    }

    /// Sets the directory in which the program starts.
    pub fn set_working_dir(&mut self, dir: &str) {
        self.run_mut().insert("WorkingDir".to_owned(), dir.into());
    }

    /// The user as whom the program starts.
    pub fn user(&self) -> &str {
        self.run_text("User")
    }
}

impl History {
    fn from_json(value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            author: text("author"),
            created: text("created"),
            created_by: text("created_by"),
            comment: text("comment"),
            empty_layer: value.get("empty_layer").and_then(Value::as_bool).unwrap_or_default(),
        }
    }

    fn to_json(&self) -> Value {
        let Self { author, created, created_by, comment, empty_layer } = self;
        let mut entry = Map::new();
        for (key, text) in [("author", author), ("created", created), ("created_by", created_by), ("comment", comment)]
        {
            entry.insert(key.to_owned(), text.clone().into());
        }
        entry.insert("empty_layer".to_owned(), (*empty_layer).into());
        entry.into()
    }
}

fn check(document: &Map<String, Value>) -> Result<(), ConfigError> {
    fn error(key: &str, expected: &'static str) -> ConfigError {
        ConfigError::Key { key: key.to_owned(), expected }
    }
    fn get<'a>(object: Option<&'a Value>, key: &str) -> Option<&'a Value> {
        object?.get(key).filter(|value| !value.is_null())
    }
    fn is_list_of_text(value: &Value) -> bool {
        value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
    }
    for key in ["architecture", "os", "variant", "os.version", "created"] {
        if document.get(key).is_some_and(|value| !value.is_string() && !value.is_null()) {
            return Err(error(key, "text"));
        }
    }
    for key in ["rootfs", "config"] {
        if document.get(key).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(error(key, "an object"));
        }
    }
    if let Some(ids) = get(document.get("rootfs"), "diff_ids") {
        let ids = ids.as_array().ok_or_else(|| error("rootfs.diff_ids", "an array"))?;
        for (at, id) in ids.iter().enumerate() {
            if id.as_str().and_then(|id| id.parse::<Digest>().ok()).is_none() {
                return Err(error(&format!("rootfs.diff_ids[{at}]"), "a sha256 digest"));
            }
        }
    }
    if document.get("history").is_some_and(|value| !value.is_array() && !value.is_null()) {
        return Err(error("history", "an array"));
    }
    let config = document.get("config");
    for key in ["Env", "Entrypoint", "Cmd"] {
        if get(config, key).is_some_and(|value| !is_list_of_text(value)) {
            return Err(error(&format!("config.{key}"), "a list of text"));
        }
    }
    for key in ["WorkingDir", "User"] {
        if get(config, key).is_some_and(|value| !value.is_string()) {
            return Err(error(&format!("config.{key}"), "text"));
        }
    }
    let is_labels = |value: &Value| {
        value.as_object().is_some_and(|labels| labels.values().all(|value| value.is_string() || value.is_null()))
    };
    if get(config, "Labels").is_some_and(|labels| !is_labels(labels)) {
        return Err(error("config.Labels", "an object of text"));
    }
    Ok(())
}

static CONFIG: Schema = Schema {
    keys: &[
        Key::always("architecture", Zero::Text),
        Key::optional("author"),
        Key::optional("container"),
        Key::always("created", Zero::Keep),
        Key::optional("docker_version"),
        Key::optional("history").of(&HISTORY),
        Key::always("os", Zero::Text),
        Key::always("rootfs", Zero::Object).of(&ROOTFS),
        Key::always("config", Zero::Object).of(&RUN),
        Key::optional("os.version"),
        Key::optional("variant"),
        Key::optional("os.features"),
    ],
};

static ROOTFS: Schema = Schema { keys: &[Key::always("type", Zero::Text), Key::always("diff_ids", Zero::Array)] };

static HISTORY: Schema = Schema {
    keys: &[
        Key::optional("author"),
        Key::always("created", Zero::Keep),
        Key::optional("created_by"),
        Key::optional("comment"),
        Key::optional("empty_layer"),
    ],
};

static RUN: Schema = Schema {
    keys: &[
        Key::optional("AttachStderr"),
        Key::optional("AttachStdin"),
        Key::optional("AttachStdout"),
        Key::optional("Cmd"),
        Key::optional("Healthcheck").of(&HEALTHCHECK),
        Key::optional("Domainname"),
        Key::optional("Entrypoint"),
        Key::optional("Env"),
        Key::optional("Hostname"),
        Key::optional("Image"),
        Key::optional("Labels"),
        Key::optional("OnBuild"),
        Key::optional("OpenStdin"),
        Key::optional("StdinOnce"),
        Key::optional("Tty"),
        Key::optional("User"),
        Key::optional("Volumes"),
        Key::optional("WorkingDir"),
        Key::optional("ExposedPorts"),
        Key::optional("ArgsEscaped"),
        Key::optional("NetworkDisabled"),
        Key::optional("MacAddress"),
        Key::optional("StopSignal"),
        Key::optional("Shell"),
    ],
};

static HEALTHCHECK: Schema = Schema {
    keys: &[
        Key::optional("Test"),
        Key::optional("Interval"),
        Key::optional("Timeout"),
        Key::optional("StartPeriod"),
        Key::optional("Retries"),
    ],
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: &Value) -> Config {
        Config::parse(value.to_string().into_bytes()).expect("a config")
    }

    #[test]
    fn what_was_read_and_not_changed_keeps_its_bytes() {
        let bytes = b"{ \"os\":\"linux\",\n\"x\": 1.50, \"architecture\" : \"arm64\", \"variant\":\"v8\"}".to_vec();
        let mut config = Config::parse(bytes.clone()).expect("a config");
        assert_eq!(config.bytes(), bytes);
        assert_eq!((config.os(), config.architecture(), config.variant()), ("linux", "arm64", "v8"));
        config.set_label("a", "b");
        assert_eq!(
            String::from_utf8_lossy(&config.bytes()),
            r#"{"architecture":"arm64","os":"linux","rootfs":{},"config":{"Labels":{"a":"b"}},"variant":"v8","x":1.5}"#
        );
    }

    #[test]
    fn nulls_and_missing_keys_are_nothing() {
        for value in [
            json!({}),
            json!({"config": null, "rootfs": null, "history": null, "os": null, "created": null}),
            json!({"config": {"Labels": null, "Env": null, "Cmd": null, "User": null}, "rootfs": {"diff_ids": null}}),
        ] {
            let mut config = config(&value);
            assert_eq!((config.os(), config.created(), config.user(), config.working_dir()), ("", "", "", ""));
            assert!(config.labels().is_empty() && config.env().is_empty() && config.history().is_empty());
            assert!(config.diff_ids().is_empty() && config.cmd().is_empty() && config.entrypoint().is_empty());
            assert_eq!(config.env_var("PATH"), None);
            config.set_label("a", "1");
            config.set_env("B", "2");
            config.set_working_dir("/w");
            config.set_cmd(&["c"]);
            assert_eq!((config.label("a"), config.env_var("B")), (Some("1"), Some("2")));
            assert_eq!((config.working_dir(), config.cmd()), ("/w", vec!["c"]));
        }
    }

    #[test]
    fn environment() {
        let mut config = config(&json!({"config": {"Env": ["PATH=/a=b:/c", "E=", "BARE", "X=1", "X=2", "=C:=x"]}}));
        for (name, value) in
            [("PATH", Some("/a=b:/c")), ("E", Some("")), ("BARE", None), ("X", Some("1")), ("Y", None), ("path", None)]
        {
            assert_eq!(config.env_var(name), value, "{name}");
        }
        config.set_env("X", "3");
        config.set_env("BARE", "4");
        config.set_env("Y", "=");
        assert_eq!(config.env(), ["PATH=/a=b:/c", "E=", "BARE=4", "X=3", "X=2", "=C:=x", "Y=="]);
    }

    #[test]
    fn labels() {
        let mut config = config(&json!({"config": {"Labels": {"b": "2", "a": "<1>"}}}));
        assert_eq!(config.labels().into_iter().collect::<Vec<_>>(), [("a", "<1>"), ("b", "2")]);
        config.remove_label("none");
        config.remove_label("b");
        config.set_label("c", "3");
        config.set_label("a", "1");
        assert_eq!(config.labels().into_iter().collect::<Vec<_>>(), [("a", "1"), ("c", "3")]);
    }

    #[test]
    fn a_label_without_a_value_has_an_empty_one() {
        let bytes = br#"{"config":{"Labels":{"a":null,"b":"2"}}}"#.to_vec();
        let mut config = Config::parse(bytes.clone()).expect("a config");
        assert_eq!(config.bytes(), bytes, "what was read stays");
        assert_eq!(config.labels().into_iter().collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
        config.set_label("c", "3");
        let text = String::from_utf8_lossy(&config.bytes()).into_owned();
        assert!(text.contains(r#""Labels":{"a":"","b":"2","c":"3"}"#), "{text}");
    }

    #[test]
    fn unusable_configs() {
        for (value, text) in [
            (json!([]), "unusable config: invalid type: sequence"),
            (json!({"os": 7}), "os is not text"),
            (json!({"config": []}), "config is not an object"),
            (json!({"rootfs": "x"}), "rootfs is not an object"),
            (json!({"rootfs": {"diff_ids": {}}}), "rootfs.diff_ids is not an array"),
            (json!({"rootfs": {"diff_ids": ["sha256:1"]}}), "rootfs.diff_ids[0] is not a sha256 digest"),
            (json!({"history": 1}), "history is not an array"),
            (json!({"config": {"Env": "A=b"}}), "config.Env is not a list of text"),
            (json!({"config": {"Env": [1]}}), "config.Env is not a list of text"),
            (json!({"config": {"Cmd": "sh"}}), "config.Cmd is not a list of text"),
            (json!({"config": {"User": 0}}), "config.User is not text"),
            (json!({"config": {"Labels": ["a"]}}), "config.Labels is not an object of text"),
            (json!({"config": {"Labels": {"a": 1}}}), "config.Labels is not an object of text"),
        ] {
            let error = Config::parse(value.to_string().into_bytes()).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(matches!(Config::parse(b"{\"os\":\"li".to_vec()), Err(ConfigError::Json(_))));
        assert!(matches!(Config::parse(b"{\"os\":\"\xff\"}".to_vec()), Err(ConfigError::Json(_))));
    }
}

//! An image's config: a JSON document that is edited in place.

/// The document. Unknown keys are kept; it is written in the order in which Go's tools write it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config(serde_json::Map<String, serde_json::Value>);

//! The label `io.buildpacks.lifecycle.metadata`, of which a rebase changes two entries and nothing else.
//!
//! Another lifecycle wrote it, perhaps a newer one, or one so old that its `app` is no list. So what is not ours stays text,
//! to the byte; of the rest each object keeps the order of its keys.

use std::fmt;

use platform_spec::label::{RunImageMetadata, StackMetadata};
use platform_spec::run::RunImage;
use platform_spec::text::{ReadError, from_json, to_go_json};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

const RUN_IMAGE: &str = "runImage";
const STACK: &str = "stack";

/// The label's content.
#[derive(Clone, Debug, Default)]
pub(super) struct Label {
    text: Object,
    /// What it says of the run image.
    pub(super) run_image: RunImageMetadata,
    /// What it says of the run image for platforms of Platform API below 0.12.
    pub(super) stack: RunImage,
}

/// What a rebase reads.
#[derive(Default, serde::Deserialize)]
struct Known {
    #[serde(default, rename = "runImage")]
    run_image: Option<RunImageMetadata>,
    #[serde(default)]
    stack: Option<StackMetadata>,
}

impl Label {
    /// Reads the label; an empty one says nothing.
    pub(super) fn parse(text: &str) -> Result<Self, ReadError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Known { run_image, stack } = from_json(text)?;
        // It has just been read: an object.
        let text = serde_json::from_str(text).unwrap_or_default();
        let stack = stack.unwrap_or_default().run_image;
        Ok(Self { text, run_image: run_image.unwrap_or_default(), stack })
    }

    /// The label with another run image: its top layer's diffID and its reference.
    pub(super) fn on(mut self, top_layer: &str, reference: &str) -> Self {
        let (top_layer, reference) = (top_layer.to_owned(), reference.to_owned());
        self.change_run_image(|object| {
            object.set("topLayer", raw(&top_layer), None);
            object.set("reference", raw(&reference), None);
        });
        self.run_image = RunImageMetadata { top_layer, reference, ..self.run_image };
        self
    }

    /// The label with another name for the run image, which has no mirrors.
    pub(super) fn named(mut self, name: &str) -> Self {
        self.change_run_image(|object| {
            object.set("image", raw(name), Some("mirrors"));
            object.remove("mirrors");
        });
        self.stack = RunImage { image: name.to_owned(), mirrors: Vec::new() };
        let stack = StackMetadata { run_image: self.stack.clone() };
        self.text.set(STACK, raw_json(to_go_json(&stack)), None);
        self.run_image = RunImageMetadata { image: name.to_owned(), mirrors: Vec::new(), ..self.run_image };
        self
    }

    /// The label's text.
    pub(super) fn to_json(&self) -> String {
        self.text.to_string()
    }

    fn change_run_image(&mut self, change: impl FnOnce(&mut Object)) {
        let mut object: Object =
            self.text.get(RUN_IMAGE).and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default();
        change(&mut object);
        self.text.set(RUN_IMAGE, raw_json(object.to_string()), Some(STACK));
    }
}

/// A JSON object whose values are text.
#[derive(Clone, Debug, Default)]
struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    fn get(&self, key: &str) -> Option<&RawValue> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| &**value)
    }

    /// Sets a value in its place; a new one before the key `before`, or behind all others.
    fn set(&mut self, key: &str, value: Box<RawValue>, before: Option<&str>) {
        let at = |key: &str| self.0.iter().position(|(found, _)| found == key);
        let place = at(key).or_else(|| before.and_then(at)).unwrap_or(self.0.len());
        self.remove(key);
        self.0.insert(place.min(self.0.len()), (key.to_owned(), value));
    }

    fn remove(&mut self, key: &str) {
        self.0.retain(|(found, _)| found != key);
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = '{';
        for (key, value) in &self.0 {
            write!(f, "{separator}{}:{}", to_go_json(key), value.get())?;
            separator = ',';
        }
        f.write_str(if separator == '{' { "{}" } else { "}" })
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

fn raw(text: &str) -> Box<RawValue> {
    raw_json(to_go_json(text))
}

fn raw_json(json: String) -> Box<RawValue> {
    // What was written just now is JSON.
    RawValue::from_string(json).or_else(|_| to_raw_value(&())).expect("null is JSON")
}

#[cfg(test)]
mod tests {
    use platform_spec::label::LifecycleMetadata;

    use super::*;

    const WHOLE: &str = r#"{"app":[{"sha":"sha256:1"}],"buildpacks":null,"config":{"sha":"sha256:2"},"launcher":{"sha":"sha256:3"},"process-types":{"sha":""},"runImage":{"topLayer":"sha256:4","reference":"r@sha256:5","image":"r/run","mirrors":["m/run"]},"stack":{"runImage":{"image":"r/run","mirrors":["m/run"]}}}"#;

    fn label(text: &str) -> Label {
        Label::parse(text).expect(text)
    }

    #[test]
    fn the_run_image_is_exchanged_in_its_place() {
        let changed = label(WHOLE).on("sha256:6", "r@sha256:<7>");
        let expected = WHOLE.replace("sha256:4", "sha256:6").replace("r@sha256:5", r"r@sha256:\u003c7\u003e");
        assert_eq!(changed.to_json(), expected);
        // As the type writes it that stands for the label.
        let mut metadata: LifecycleMetadata = from_json(WHOLE).expect("a label");
        metadata.run_image.top_layer = "sha256:6".to_owned();
        metadata.run_image.reference = "r@sha256:<7>".to_owned();
        assert_eq!(changed.to_json(), to_go_json(&metadata));
        metadata.run_image.image = "n/run".to_owned();
        metadata.run_image.mirrors = Vec::new();
        metadata.stack.as_mut().expect("there").run_image = RunImage { image: "n/run".to_owned(), mirrors: Vec::new() };
        assert_eq!(changed.named("n/run").to_json(), to_go_json(&metadata));
    }

    #[test]
    fn what_is_not_ours_stays_to_the_byte() {
        let odd = r#"{ "new" : [1.50, 1e2, "\u00e9"], "app":{"sha":"x"}, "runImage": {"z": 1.0, "reference":"r", "topLayer":"t"}, "a":{ } }"#;
        let expected = r#"{"new":[1.50, 1e2, "\u00e9"],"app":{"sha":"x"},"runImage":{"z":1.0,"reference":"R","topLayer":"T"},"a":{ }}"#;
        assert_eq!(label(odd).on("T", "R").to_json(), expected);
        let run_image = label(odd).run_image;
        assert_eq!((run_image.top_layer.as_str(), run_image.reference.as_str()), ("t", "r"));
    }

    #[test]
    fn entries_that_are_not_there_are_made() {
        for (text, expected) in [
            ("{}", r#"{"runImage":{"topLayer":"T","reference":"R"}}"#),
            (r#"{"runImage":null,"x":1}"#, r#"{"runImage":{"topLayer":"T","reference":"R"},"x":1}"#),
            (r#"{"a":1,"stack":null}"#, r#"{"a":1,"runImage":{"topLayer":"T","reference":"R"},"stack":null}"#),
            (r#"{"runImage":{"topLayer":"t","x":1}}"#, r#"{"runImage":{"topLayer":"T","x":1,"reference":"R"}}"#),
        ] {
            assert_eq!(label(text).on("T", "R").to_json(), expected);
        }
        let named = r#"{"runImage":{"image":"n"},"stack":{"runImage":{"image":"n"}}}"#;
        assert_eq!(label("{}").named("n").to_json(), named);
        let named = r#"{"runImage":{"topLayer":"t","image":"n","x":1},"stack":{"runImage":{"image":"n"}}}"#;
        assert_eq!(label(r#"{"runImage":{"topLayer":"t","mirrors":["m"],"x":1}}"#).named("n").to_json(), named);
        assert_eq!(label("").run_image, RunImageMetadata::default());
    }

    #[test]
    fn what_is_no_such_label() {
        const TWICE: &str = r#"{"runImage":{},"runImage":{}}"#;
        for text in
            ["x", "[]", "3", r#"{"runImage":3}"#, r#"{"runImage":{"topLayer":3}}"#, r#"{"stack":[]}"#, "{} {}", TWICE]
        {
            assert!(Label::parse(text).is_err(), "{text}");
        }
    }
}

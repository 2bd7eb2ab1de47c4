//! The ordered tree between values and the two writers: a struct keeps the order of its fields, a map is sorted.

use std::fmt::{self, Display};

use serde::ser::{
    self, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use toml::value::Datetime;

/// A value as it will be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Nothing: `null` in JSON, left out of TOML.
    Null,
    Bool(bool),
    /// Wide enough for `i64` and `u64`.
    Integer(i128),
    Float(f64),
    Text(String),
    /// Text that is quoted by JSON's rules even in TOML: see [`JsonQuoted`].
    JsonText(String),
    Date(Datetime),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// Text that the reference quotes by JSON's rules even in TOML: the commands of `metadata.toml`.
pub(crate) struct JsonQuoted<'a>(pub(crate) &'a str);

const JSON_QUOTED: &str = "$platform_spec::JsonQuoted";

impl Serialize for JsonQuoted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(JSON_QUOTED, self.0)
    }
}

/// The name under which `toml` passes a date through serde; a test holds it to be right.
pub(super) const DATE: &str = "$__toml_private_Datetime";

/// The tree of a value.
pub(super) fn of<T: Serialize + ?Sized>(value: &T) -> Node {
    #[expect(clippy::expect_used, reason = "the builder of the tree never fails, and no type of the package does")]
    value.serialize(Builder).expect("the value describes itself")
}

/// What a [`Serialize`] says about itself if it fails.
#[derive(Debug)]
pub(super) struct Refused(String);

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Builder;

impl Serializer for Builder {
    type Ok = Node;
    type Error = Refused;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = Variant<List>;
    type SerializeMap = Map;
    type SerializeStruct = Struct;
    type SerializeStructVariant = Variant<Struct>;

    fn serialize_bool(self, value: bool) -> Result<Node, Refused> {
        Ok(Node::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i16(self, value: i16) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i32(self, value: i32) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i64(self, value: i64) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u8(self, value: u8) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u16(self, value: u16) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u32(self, value: u32) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u64(self, value: u64) -> Result<Node, Refused> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_f32(self, value: f32) -> Result<Node, Refused> {
        Ok(Node::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Node, Refused> {
        Ok(Node::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<Node, Refused> {
        Ok(Node::Text(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Node, Refused> {
        Ok(Node::Text(value.to_owned()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Node, Refused> {
        Ok(Node::List(value.iter().map(|byte| Node::Integer((*byte).into())).collect()))
    }

    fn serialize_none(self) -> Result<Node, Refused> {
        Ok(Node::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Node, Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Node, Refused> {
        Ok(Node::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Node, Refused> {
        Ok(Node::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Node, Refused> {
        Ok(Node::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<Node, Refused> {
        match value.serialize(self)? {
            Node::Text(text) if name == JSON_QUOTED => Ok(Node::JsonText(text)),
            node => Ok(node),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Node, Refused> {
        Ok(Node::Table(vec![(variant.to_owned(), value.serialize(self)?)]))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List, Refused> {
        Ok(List(Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<List, Refused> {
        Ok(List(Vec::new()))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List, Refused> {
        Ok(List(Vec::new()))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<List>, Refused> {
        Ok(Variant(variant, List(Vec::new())))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map, Refused> {
        Ok(Map { entries: Vec::new(), key: String::new() })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Struct, Refused> {
        Ok(Struct { is_date: name == DATE, fields: Vec::new() })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<Struct>, Refused> {
        Ok(Variant(variant, Struct { is_date: false, fields: Vec::new() }))
    }
}

struct List(Vec<Node>);

impl SerializeSeq for List {
    type Ok = Node;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.0.push(value.serialize(Builder)?);
        Ok(())
    }

    fn end(self) -> Result<Node, Refused> {
        Ok(Node::List(self.0))
    }
}

impl SerializeTuple for List {
    type Ok = Node;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<Node, Refused> {
        SerializeSeq::end(self)
    }
}

impl SerializeTupleStruct for List {
    type Ok = Node;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<Node, Refused> {
        SerializeSeq::end(self)
    }
}

struct Map {
    entries: Vec<(String, Node)>,
    key: String,
}

impl SerializeMap for Map {
    type Ok = Node;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key = key.serialize(KeyText)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.entries.push((std::mem::take(&mut self.key), value.serialize(Builder)?));
        Ok(())
    }

    fn end(mut self) -> Result<Node, Refused> {
        self.entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(Node::Table(self.entries))
    }
}

struct Struct {
    is_date: bool,
    fields: Vec<(String, Node)>,
}

impl SerializeStruct for Struct {
    type Ok = Node;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Refused> {
        self.fields.push((key.to_owned(), value.serialize(Builder)?));
        Ok(())
    }

    fn end(self) -> Result<Node, Refused> {
        if self.is_date
            && let Some((_, Node::Text(text))) = self.fields.first()
            && let Ok(date) = text.parse()
        {
            return Ok(Node::Date(date));
        }
        Ok(Node::Table(self.fields))
    }
}

struct Variant<T>(&'static str, T);

impl SerializeTupleVariant for Variant<List> {
    type Ok = Node;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        SerializeSeq::serialize_element(&mut self.1, value)
    }

    fn end(self) -> Result<Node, Refused> {
        Ok(Node::Table(vec![(self.0.to_owned(), SerializeSeq::end(self.1)?)]))
    }
}

impl SerializeStructVariant for Variant<Struct> {
    type Ok = Node;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Refused> {
        SerializeStruct::serialize_field(&mut self.1, key, value)
    }

    fn end(self) -> Result<Node, Refused> {
        Ok(Node::Table(vec![(self.0.to_owned(), SerializeStruct::end(self.1)?)]))
    }
}

/// Keys are text; numbers and booleans are written out.
struct KeyText;

macro_rules! key_text {
    ($($method:ident($type:ty))+) => {
        $(fn $method(self, value: $type) -> Result<String, Refused> {
            Ok(value.to_string())
        })+
    };
}

fn not_a_key<T>() -> Result<T, Refused> {
    Err(Refused("a key must be text".to_owned()))
}

impl Serializer for KeyText {
    type Ok = String;
    type Error = Refused;
    type SerializeSeq = Impossible<String, Refused>;
    type SerializeTuple = Impossible<String, Refused>;
    type SerializeTupleStruct = Impossible<String, Refused>;
    type SerializeTupleVariant = Impossible<String, Refused>;
    type SerializeMap = Impossible<String, Refused>;
    type SerializeStruct = Impossible<String, Refused>;
    type SerializeStructVariant = Impossible<String, Refused>;

    key_text! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_f32(f32) serialize_f64(f64)
        serialize_char(char) serialize_str(&str)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<String, Refused> {
        not_a_key()
    }

    fn serialize_none(self) -> Result<String, Refused> {
        not_a_key()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, Refused> {
        not_a_key()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<String, Refused> {
        not_a_key()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, Refused> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<String, Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, Refused> {
        not_a_key()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Refused> {
        not_a_key()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Refused> {
        not_a_key()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Refused> {
        not_a_key()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refused> {
        not_a_key()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Refused> {
        not_a_key()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refused> {
        not_a_key()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refused> {
        not_a_key()
    }
}

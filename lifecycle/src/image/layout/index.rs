//! Indexes in a layout: one entry of `index.json` with the image's name, which points at an index blob.
//!
//! Readers choose wrongly among several entries of one name, so several are read, but never written. Writers take
//! turns by the lock on the layout's directory; there are no slots. While a new index is made ([`IndexChange::Rewrite`]),
//! children are pushed into the same layout, so the lock is free meanwhile, and what the name holds is compared after.

use super::write::Writer;
use super::{Place, REF_NAME, ref_name};
use crate::image::index::Held;
use crate::image::manifest::{Child, Document};
use crate::image::{Config, Index, IndexChange, IndexError, StoreError, WrittenIndex};

/// How often a rewrite begins anew because another process has changed the name meanwhile.
const ROUNDS: u32 = 20;

/// What a layout has under its name.
#[derive(Default)]
pub(super) struct Current {
    /// The document, or an index of several entries that has no blob of its own.
    pub(super) document: Option<Document>,
    /// Its children.
    held: Held,
    /// Entries of other names.
    others: Vec<Child>,
}

impl Current {
    pub(super) fn read(place: &Place) -> Result<Self, StoreError> {
        let Some(index) = place.index()? else { return Ok(Self::default()) };
        let is_ours = |child: &Child| ref_name(child).is_none_or(|name| name == place.ref_name);
        let (ours, others): (Vec<Child>, Vec<Child>) = index.children.into_iter().partition(is_ours);
        let mut children = Vec::new();
        for mut entry in ours.iter().cloned() {
            let document = place.document(&entry.blob)?;
            let mut held = match &document {
                Document::Index(index) => Held::of_index(index),
                Document::Manifest(manifest) => {
                    // What is no image has no such config.
                    let config = place.config(manifest).ok().and_then(|bytes| Config::parse(bytes).ok());
                    Held::of_manifest(manifest, config.as_ref())
                }
            };
            if ours.len() == 1 {
                return Ok(Self { document: Some(document), held, others });
            }
            if let (Document::Manifest(_), [child]) = (&document, held.children.as_mut_slice()) {
                remove_name(&mut entry);
                if entry.platform.is_some() {
                    *child = entry;
                }
            }
            children.append(&mut held.children);
        }
        if children.is_empty() {
            return Ok(Self { others, ..Self::default() });
        }
        let index = Index::of(children, serde_json::Map::new());
        // What is written has one entry, whatever the change.
        let held = Held { is_index: false, ..Held::of_index(&index) };
        Ok(Self { document: Some(Document::Index(index)), held, others })
    }
}

fn remove_name(entry: &mut Child) {
    let Some(annotations) = entry.blob.other.get_mut("annotations").and_then(|value| value.as_object_mut()) else {
        return;
    };
    annotations.remove(REF_NAME);
    if annotations.is_empty() {
        entry.blob.other.remove("annotations");
    }
}

/// Changes the index of a layout.
pub(super) fn write(place: &Place, change: &IndexChange<'_>) -> Result<WrittenIndex, IndexError> {
    let failed = |cause| {
        let path = |digest| format!("{}@{digest}", place.path.display());
        let children = match change {
            IndexChange::Merge(children) => children.iter().map(|child| path(child.blob.digest)).collect(),
            IndexChange::Rewrite(_) => Vec::new(),
        };
        IndexError::Store { name: place.name.clone(), children, cause }
    };
    match change {
        IndexChange::Merge(children) => {
            let writer = Writer::begin(place.clone()).map_err(failed)?;
            let current = Current::read(place).map_err(failed)?;
            let index = match current.document {
                Some(Document::Index(index)) if current.held.holds(children) => index,
                Some(_) | None => {
                    let index = current.held.merged(children);
                    writer.publish_index(&index, &current.others).map_err(failed)?;
                    index
                }
            };
            Ok(WrittenIndex::of(&place.name, index, children))
        }
        IndexChange::Rewrite(make) => {
            for _ in 0..ROUNDS {
                let before = Current::read(place).map_err(failed)?.document;
                let index =
                    make(before.as_ref()).map_err(|cause| IndexError::Rewrite { name: place.name.clone(), cause })?;
                let writer = Writer::begin(place.clone()).map_err(failed)?;
                let current = Current::read(place).map_err(failed)?;
                if current.document == before {
                    writer.publish_index(&index, &current.others).map_err(failed)?;
                    return Ok(WrittenIndex::of(&place.name, index, &[]));
                }
            }
            Err(IndexError::GivenUp { name: place.name.clone(), rounds: ROUNDS, seconds: 0, children: Vec::new() })
        }
    }
}

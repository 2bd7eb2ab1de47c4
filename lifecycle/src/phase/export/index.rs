//! The app image as a part of an index (`-index`; target-arch.md, *The index*).
//!
//! What cannot succeed is refused before anything is packed: [`check`]. The image is pushed by its digest, then the index
//! under each name is written: [`write`].

use std::cell::Cell;

use platform_spec::index_report::IndexReport;
use platform_spec::input::IndexMode;

use super::super::saved::{NameError, Names, tell_index};
use super::{ExportError, Inputs};
use crate::image::index::{self, IndexChange, IndexChild, IndexError, WrittenIndex, send_again, write_whole};
use crate::image::{Image, Index, Store, StoreError};

/// Checks the names.
pub(super) fn check(inputs: &Inputs) -> Result<(), ExportError> {
    if inputs.index == IndexMode::Off {
        return Ok(());
    }
    let mut names = std::iter::once(&inputs.output).chain(&inputs.additional_tags);
    names.try_for_each(|name| index::check(name, inputs.build_for.platform())).map_err(ExportError::Index)
}

/// Checks the platform that the image will have in the index, which the run image may state more closely than the target
/// does: `riscv64/rva20u64` for `riscv64`.
pub(super) fn check_child(inputs: &Inputs, run_image: &Image) -> Result<(), ExportError> {
    if inputs.index == IndexMode::Off {
        return Ok(());
    }
    let platform = IndexChild::of(run_image, Some(inputs.build_for.platform())).platform();
    index::check(&inputs.output, &platform).map_err(ExportError::Index)
}

/// Writes the index under each name whose repository has the image; one that fails does not stop the others. Gives what
/// became of the names, and the report if there is an index at all.
pub(super) fn write(
    inputs: &Inputs,
    store: &dyn Store,
    image: &Image,
    names: Vec<(String, Result<(), StoreError>)>,
) -> (Names, Option<IndexReport>) {
    if inputs.index == IndexMode::Off {
        let names = names.into_iter().map(|(name, result)| (name, result.map_err(NameError::from)));
        return (names.collect(), None);
    }
    let child = IndexChild::of(image, Some(inputs.build_for.platform()));
    let mut report = IndexReport::default();
    let mut written = Vec::new();
    for (name, result) in names {
        let result = match result {
            Err(error) => Err(error.into()),
            Ok(()) => write_one(inputs, store, &name, image, &child).map_err(NameError::from).map(|index| {
                report.indexes.push(tell_index(&index));
            }),
        };
        written.push((name, result));
    }
    (written, Some(report))
}

fn write_one(
    inputs: &Inputs,
    store: &dyn Store,
    name: &str,
    image: &Image,
    child: &IndexChild,
) -> Result<WrittenIndex, IndexError> {
    let children = std::slice::from_ref(child);
    let own = || vec![child.blob.digest];
    let send = || send_again(store, name, [image]);
    let write = |change: &IndexChange<'_>| write_whole(store, name, change, &own, &send);
    let written = match inputs.index {
        IndexMode::Off | IndexMode::Merge => write(&IndexChange::Merge(children)),
        IndexMode::Replace => {
            let fresh = Index::fresh(children);
            let made = Cell::new(false);
            write(&IndexChange::Rewrite(&|_| {
                // No tag names it yet, and it may have taken a while to come here once more.
                if made.replace(true) {
                    send()?;
                }
                Ok(fresh.clone())
            }))
        }
    };
    let stands = || store.name_by_digest(name, &child.blob.digest).into_iter().collect();
    written.map_err(|error| error.naming(stands()))
}

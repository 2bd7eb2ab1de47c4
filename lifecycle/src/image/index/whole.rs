//! An index whose children are there, though the registry collects what no tag names.
//!
//! Between the push of an image by its digest and the moment when a slot or the tag names it, a collector may take it. Who
//! has the image sends it again, once: by then it is either named already, or will be a moment later.

use log::warn;

use super::{IndexChange, IndexError, WrittenIndex};
use crate::digest::Digest;
use crate::image::{Child, Image, Store, StoreError};

/// Writes an index ([`Store::write_index`]). `own` are the digests of the images that this writer has put there, and
/// `send` sends them again: they are asked for when the index was refused, or stands. Images of others that are lost are
/// theirs to send.
///
/// # Errors
///
/// Those of the store; [`IndexError::Gone`] too, where an image of ours is not there after it was sent again.
pub fn write_whole(
    store: &dyn Store,
    name: &str,
    change: &IndexChange<'_>,
    own: &dyn Fn() -> Vec<Digest>,
    send: &dyn Fn() -> Result<(), StoreError>,
) -> Result<WrittenIndex, IndexError> {
    let send = |lost: &[Child]| {
        let digests: Vec<_> = lost.iter().map(|child| child.blob.digest.to_string()).collect();
        warn!("{name}: the registry has lost {} already; sending it again", digests.join(", "));
        send().map_err(|cause| IndexError::Store { name: name.to_owned(), children: Vec::new(), cause })
    };
    let index = match store.write_index(name, change) {
        Err(IndexError::Gone { lost, .. }) if lost.iter().any(|child| own().contains(&child.blob.digest)) => {
            send(&lost)?;
            store.write_index(name, change)?
        }
        written => written?,
    };
    let lost = lost_of(store, &index, own)?;
    if lost.is_empty() {
        return Ok(index);
    }
    // The index names it, or is not the tag's any more: nothing is to be written again.
    send(&lost)?;
    match lost_of(store, &index, own)? {
        lost if lost.is_empty() => Ok(index),
        lost => Err(IndexError::Gone { name: name.to_owned(), lost, children: Vec::new(), cause: None }),
    }
}

/// What an index names of our images, and the store does not have.
fn lost_of(store: &dyn Store, index: &WrittenIndex, own: &dyn Fn() -> Vec<Digest>) -> Result<Vec<Child>, IndexError> {
    let failed = |cause| IndexError::Store { name: index.name.clone(), children: Vec::new(), cause };
    let own = own();
    let mut lost = Vec::new();
    for child in index.children.iter().filter(|child| own.contains(&child.blob.digest)) {
        let name = store.name_by_digest(&index.name, &child.blob.digest).map_err(failed)?;
        match store.document(&name) {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => lost.push(child.clone()),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(lost)
}

/// Sends images once more into the repository of a name, by their digests.
pub(crate) fn send_again<'a>(
    store: &dyn Store,
    name: &str,
    images: impl IntoIterator<Item = &'a Image>,
) -> Result<(), StoreError> {
    for image in images {
        let pushed = store.push(name, &[])?.finish_untagged(image)?;
        pushed.names.into_iter().try_for_each(|(_, result)| result)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::image::memory::MemoryStore;
    use crate::image::{Draft, IndexChild};

    #[test]
    fn what_is_ours_is_sent_again_once() {
        let store = MemoryStore::new();
        let [ours, other] = ["arm64", "amd64"].map(|arch| Draft::empty("linux", arch, "").finish().expect("an image"));
        let digests = || vec![ours.manifest.digest];
        let child = [IndexChild::of(&ours, None)];
        let change = IndexChange::Merge(&child);
        let (sent, lasting) = (Cell::new(0), Cell::new(true));
        let send = || {
            sent.set(sent.get() + 1);
            if lasting.get() { send_again(&store, "reg.io/app", [&ours]) } else { Ok(()) }
        };
        let write = |change: &IndexChange<'_>| write_whole(&store, "reg.io/app", change, &digests, &send);
        // It is not there, and then it is.
        assert_eq!(write(&change).expect("written").children.len(), 1);
        assert_eq!(sent.get(), 1);
        write(&change).expect("there already");
        assert_eq!(sent.get(), 1);
        // Named by the index, and gone: it is sent, or else this is an error.
        store.delete("reg.io/app", &ours.manifest.digest).expect("deleted");
        write(&change).expect("sent again");
        assert_eq!(sent.get(), 2);
        store.delete("reg.io/app", &ours.manifest.digest).expect("deleted");
        lasting.set(false);
        assert!(matches!(write(&change), Err(IndexError::Gone { .. })));
        assert_eq!(sent.get(), 3);
        // What is not ours is not sent.
        let others = [IndexChild::of(&other, None)];
        assert!(matches!(write(&IndexChange::Merge(&others)), Err(IndexError::Gone { .. })));
        assert_eq!(sent.get(), 3);
    }
}

//! A collector of what no tag names, and what writers do about it: what [`write_whole`](super::super::super::write_whole) does.

use std::collections::BTreeSet;

use super::{Job, Model, Next, State, Writer, rebased};
use crate::digest::Digest;
use crate::image::Index;
use crate::image::index::protocol::Told;

impl Model {
    /// What is left when a collector has run; nothing, if it finds nothing, or runs no more.
    pub(super) fn collected(&self, state: &State) -> Option<State> {
        let left = state.collections.checked_sub(1)?;
        let named: BTreeSet<Digest> = state.tags.iter().flatten().flat_map(|tag| self.named(*tag)).collect();
        let there: BTreeSet<Digest> = state.there.intersection(&named).copied().collect();
        (there != state.there).then(|| State { there, collections: left, ..state.clone() })
    }

    fn named(&self, index: Digest) -> Vec<Digest> {
        self.index(index).children.iter().map(|child| child.blob.digest).collect()
    }

    /// Whether the registry takes an index.
    pub(super) fn takes(&self, state: &State, index: Digest) -> bool {
        self.scene.credulous || self.named(index).iter().all(|child| state.there.contains(child))
    }

    /// The children that a writer pushes before it begins.
    pub(super) fn own(&self, job: Job) -> Vec<Digest> {
        match job {
            Job::Merge(name) | Job::Naive(name) | Job::Replace(name) => vec![self.child(name).blob.digest],
            Job::Rebase => self.scene.held.iter().map(|held| self.child(&rebased(held)).blob.digest).collect(),
        }
    }

    /// A rewriter that makes its index for the second time, or of what it has not seen before, sends what is in it.
    pub(super) fn send_made(&self, made: &mut bool, own: &mut Vec<Digest>, index: &Index, state: &mut State) {
        let again = std::mem::replace(made, true);
        let children: Vec<Digest> = index.children.iter().map(|child| child.blob.digest).collect();
        state.there.extend(children.iter().filter(|child| again || !own.contains(child)));
        *own = children;
    }

    /// The end, if the writer's children are there as far as the index names them. Else they are sent; once.
    pub(super) fn find(&self, state: &mut State, writer: &mut Writer, index: Digest) {
        let (own, named) = (writer.own.clone(), self.named(index));
        if own.iter().any(|child| named.contains(child) && !state.there.contains(child)) {
            writer.failed = std::mem::replace(&mut writer.sent, true);
            writer.next = if writer.failed { Next::Nothing } else { Next::Find(index) };
            state.there.extend(own);
            return;
        }
        writer.done = Some(index);
        writer.next = Next::Nothing;
    }

    /// Sends the writer's children again, once, and begins again.
    pub(super) fn send_again(&self, writer: &mut Writer, state: &mut State) {
        let lost = !writer.own.iter().all(|child| state.there.contains(child));
        if std::mem::replace(&mut writer.again, true) || !lost {
            writer.failed = true;
            writer.next = Next::Nothing;
            return;
        }
        state.there.extend(&writer.own);
        writer.made = false;
        writer.run = self.run(writer.job, state.now);
        self.go_on(writer, Told::Nothing, state);
    }

    /// Whether what the tag names is there; at least what belongs to a writer who has said so.
    pub(super) fn check_whole(&self, state: &State) -> Result<(), String> {
        let Some(tag) = state.tags[0] else { return Ok(()) };
        let excused: BTreeSet<Digest> =
            state.writers.iter().filter(|writer| writer.done.is_none()).flat_map(|writer| writer.own.clone()).collect();
        let lost = self.named(tag).into_iter().find(|child| !state.there.contains(child) && !excused.contains(child));
        match lost {
            Some(child) => {
                Err(format!("{} is named by the tag, and is not there", self.content.borrow().names[&child]))
            }
            None => Ok(()),
        }
    }
}

//! What tests see of a run.

use super::{Phase, Protocol, State};
use crate::digest::Digest;

/// What distinguishes two runs of the same writer, for tests that try every schedule.
pub(in crate::image::index) type Key =
    (u8, Vec<usize>, Vec<(usize, Digest)>, [Option<Digest>; 5], (u8, Option<Digest>), u32);

impl Protocol {
    pub(in crate::image::index) fn key(&self) -> Key {
        // What was read matters until something is asked for because of it.
        let (state, left, reads) = match &self.state {
            State::Begin => (0, Vec::new(), false),
            State::Clock => (1, Vec::new(), false),
            State::LookingAtOwn => (13, Vec::new(), false),
            State::GettingOwn(_) => (14, Vec::new(), false),
            State::Announcing(left) => (2, left.clone(), false),
            State::LookingAtTag => (3, Vec::new(), false),
            State::GettingTag => (4, Vec::new(), true),
            State::GettingConfig(_) => (5, Vec::new(), true),
            State::LookingAtSlots => (6, Vec::new(), true),
            State::GettingSlot(slot) => (7, vec![*slot], true),
            State::Checking(_) => (8, Vec::new(), true),
            State::Putting => (9, Vec::new(), false),
            State::Waiting => (10, Vec::new(), false),
            State::Making => (11, Vec::new(), true),
            State::Withdrawing(left) => (12, left.iter().map(|(slot, _)| *slot).collect(), true),
        };
        let (phase, from, made) = match &self.rewrite {
            Phase::Quiet => (0, None, None),
            Phase::Made(from, index) => (1, *from, Some(index.digest)),
            Phase::Put(index) => (2, None, Some(index.digest)),
        };
        let checking = match &self.state {
            State::Checking(index) => Some(index.digest),
            _ => None,
        };
        let matter = reads && checking.is_none();
        let digests = self.read.slots.iter().enumerate().filter(|_| matter);
        let slots = digests.filter_map(|(slot, digest)| Some((slot, (*digest)?))).collect();
        let before = self.own.first().and_then(|own| own.before);
        let tag = if reads { self.read.tag } else { None };
        (state, left, slots, [tag, checking, made, before, self.refused], (phase, from), self.failures)
    }

    /// What the tag held when it was read last.
    pub(in crate::image::index) fn base(&self) -> Option<Digest> {
        self.read.tag
    }
}

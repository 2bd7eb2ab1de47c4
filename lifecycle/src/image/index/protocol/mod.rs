//! Many writers, one tag, and a registry without compare-and-swap: announce, then merge.
//!
//! # The protocol
//!
//! A writer that *merges* has pushed its child by digest before. Then it
//!
//! 1. *announces* it: asks for the registry's time, looks what the child's slot says (module `slot`), and puts it;
//! 2. reads the tag, then all slots. Wanted is what the tag holds, overridden per platform by what slots younger than
//!    [`YOUTH`] announce;
//! 3. is done, if the tag is an index that holds what is wanted. Else it looks at the tag once more, and if that names
//!    what it did and the read is younger than [`READ_AGE`], puts the wanted index; then it goes to 2, after a random pause
//!    from the second put on. A put without an answer may have been done or not: 2 will tell;
//! 4. gives up after [`ROUNDS`] puts or [`PATIENCE`], and only after a read: a whole index stands.
//!
//! Where it finds its own slot overwritten by something that is neither a newer announcement nor the withdrawal of this
//! child or of a newer one, it announces again: a rewriter may withdraw what the slot said before, and not see that it has
//! changed.
//!
//! A writer that *rewrites* (a rebase, a replacement) announces nothing. It
//!
//! 1. reads as above, until the tag holds what young slots announce. For who has announced and died it waits until it
//!    cannot be alive any more ([`SETTLED`]), and then merges in its place: earlier, a living writer's put that is on
//!    its way could undo what follows;
//! 2. makes the new index, its children pushed by digest;
//! 3. *withdraws* the young slots that it saw, so that nobody merges them again;
//! 4. reads once more, and looks at the tag again. Another index, or a young slot: begins again with 1;
//! 5. puts the new index, and reads. If it is gone, undone by a put that was on its way, begins again with 1; if a
//!    slot has become young meanwhile that it lacks, merges it as any writer does.
//!
//! # Why nothing is lost
//!
//! Whoever writes the index last reads the slots after that, and every other writer announced before its own write.
//!
//! Let `W` be the writer of the last put of the tag, `T` the moment of this put, and `V` any writer that merged the
//! child `c` and was done. `W` goes on until it has read, all of it after `T`, slots and an index that holds what they
//! announce; nobody writes after `T`, so that index is the one it put. There are two cases.
//!
//! - `V` announced before `W` read `V`'s slot for that last time. Then `W` saw the announcement of `c`, or a newer one
//!   in its place, and what it put holds it. (It was young: either `W`'s put was made from a read that saw it too, or
//!   `V` announced after that read, which is at most [`READ_AGE`] and one put ago.)
//! - `V` announced after that. Then `V`, too, read slots and index after `T`: it was done when that index held what
//!   the slots announce, its own among them, and it is the index that stands.
//!
//! A slot is overwritten only by a newer announcement for its platform, which takes the place of the child anyway, or
//! by a withdrawal. A withdrawal follows a read in which the tag held what the slot announced, so the new index is made
//! from it; if another announcement was overwritten unseen, its writer finds it gone and announces again.
//!
//! The order of announcements of one platform is the order in which the registry took them, not that of the times in
//! them: those only say which slots are old. An old slot says nothing, since the index has held its child for long and
//! may have got another since by something that does not announce.
//!
//! A rebase is one put. Killed before it, the tag holds what it held, and withdrawn slots say nothing; killed after
//! it, the tag holds the rebased index, and the slots of what went into it are withdrawn, so that nobody brings an
//! old child back.
//!
//! # Collectors
//!
//! A registry may delete manifests that no tag names, neither itself nor by an index, at any moment. A child is named by its
//! slot from its announcement on, then by the tag, too; what a rewriter makes, by the tag from its put on. Before that
//! moment a child can be taken, and then
//!
//! - an announcement is refused ([`Outcome::Gone`]) and so is the put of a rewriter, unless the registry looks for nothing;
//! - so is the put of a merge that names what a newer announcement of the same platform has taken the slot from.
//!
//! The last is mended by a new reading, the others by whoever has the child: he sends it again. Where a registry looks for
//! nothing, the writer finds at the end that its child is not there, and sends it: it is named by then. See
//! [`write_whole`](super::write_whole).
//!
//! # What is not covered
//!
//! - A merge that overwrites what another writer has put in the two requests' time between its last look at the tag and
//!   its put, while a rewrite ends. If it is the rewriter's index that it overwrites, the old one is back, with the merged
//!   child; if it is another merge's, it would mend that from the slots, but the rewriter has withdrawn them. (The other
//!   way around, a merge that is over between the rewriter's last look and its put, is mended by the read that follows.)
//! - The same by another rewriter, where the two want different things: a rebase that puts what it made from the children
//!   that a replacement has just replaced.
//! - A writer that is killed after its put and before it is done: what it has overwritten is missing until the next
//!   writer, at most [`YOUTH`] later, reads the slots.
//! - A tag that something without the protocol moves less than [`YOUTH`] after a merge.
//! - A registry that answers a read with something older than what it has acknowledged.

mod run;

use std::time::Duration;

use crate::digest::Digest;
use crate::image::manifest::{Document, Index, Manifest};
use crate::image::{Config, StoreError};

pub use run::Protocol;
#[cfg(test)]
pub(super) use run::key::Key;

/// A slot that was announced less long ago counts.
pub const YOUTH: Duration = Duration::from_secs(15 * 60);

/// A slot that is dated further ahead than this does not count: no clock that anybody looks after is so wrong.
pub const FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

/// An index is put only if all that it was made from was read less long ago.
pub const READ_AGE: Duration = Duration::from_secs(60);

/// How often a writer puts the index, or begins again, before it gives up.
pub const ROUNDS: u32 = 20;

/// For how long a writer tries.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Who announced so long ago puts nothing any more: it has given up, or what it read is too old.
pub const SETTLED: Duration = Duration::from_secs(6 * 60);

/// Beside [`PATIENCE`], the time that a rewriter waits for others.
const WAITING: Duration = Duration::from_secs(7 * 60);

/// Between two looks of a rewriter that waits for others.
const POLL: Duration = Duration::from_secs(2);

/// How many puts in a row may fail.
const FAILURES: u32 = 5;

/// A request of the machine; its answer is to be given to the next [`Protocol::step`].
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The registry's clock, as an answer says that no cache has given: [`Told::Clock`].
    Clock,
    /// What these tags name by now (`HEAD`), in any order or at the same time: [`Told::Digests`].
    Look(Vec<String>),
    /// What has this digest: [`Told::Document`].
    Get(Digest),
    /// The config of a single manifest: [`Told::Config`].
    Config(Box<Manifest>),
    /// Put an index under a tag, once: [`Told::Put`].
    Put {
        /// The tag.
        tag: String,
        /// The index.
        index: Box<Index>,
    },
    /// Make the new index of what the tag holds; only where one rewrites: [`Told::Made`].
    Make(Option<Document>),
    /// Wait, at least for half and at most for all of this time, at random: [`Told::Waited`].
    Wait(Duration),
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Told {
    /// Nothing was asked: the beginning.
    Nothing,
    /// In seconds since 1970; `None`: the registry does not say, and the own clock has to do.
    Clock(Option<i64>),
    /// For each tag, the digest of what it names, if it names something.
    Digests(Vec<Option<Digest>>),
    /// What has the digest; `None`: it is gone.
    Document(Option<Document>),
    /// What has the digest is neither a manifest nor an index.
    Unreadable(StoreError),
    /// The config, if it is an image's.
    Config(Option<Config>),
    /// Whether it was put.
    Put(Outcome),
    /// The new index.
    Made(Box<Index>),
    /// The time is over.
    Waited,
}

/// What became of a put.
#[derive(Debug)]
pub enum Outcome {
    /// The registry has acknowledged it.
    Done,
    /// It has not, and it may have been done nevertheless: no answer, or one of a registry in trouble.
    Unknown(StoreError),
    /// It was refused, because something that the index names is not there: taken by a collector of what no tag names.
    Gone(StoreError),
}

/// What a step gives.
#[derive(Debug)]
pub enum Step {
    /// A request is to be sent.
    Ask(Ask),
    /// The index that stands.
    Done(Box<Index>),
    /// Others change it all the time, and now it is enough: so many rounds.
    GivenUp(u32),
    /// Puts fail again and again.
    Failed(StoreError),
    /// What the index that was put last names is not there, and a reading has not changed that.
    Gone(StoreError),
}

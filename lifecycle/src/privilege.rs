//! Root, and how to be rid of it: ownership of directories, then user and group.

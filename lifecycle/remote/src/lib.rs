//! Everything that opens a socket: registries and credentials. Rung 4 of the ladder.

//! Names and defaults of the inputs that platforms give (platform.md, *Inputs*).

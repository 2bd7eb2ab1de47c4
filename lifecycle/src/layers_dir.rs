//! `<layers>/<buildpack>`: what buildpacks wrote, read as what it may be: hostile.

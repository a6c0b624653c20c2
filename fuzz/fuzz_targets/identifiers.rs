//! `cargo fuzz run identifiers`: see `src/identifiers.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(identifiers);

//! `cargo fuzz run selection`: see `src/selection.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(selection);

//! `cargo fuzz run journal`: see `src/journal.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(journal);

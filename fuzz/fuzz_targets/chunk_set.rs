//! `cargo fuzz run chunk_set`: see `src/chunk_set.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(chunk_set);

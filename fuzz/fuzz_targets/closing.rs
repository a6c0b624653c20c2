//! `cargo fuzz run closing`: see `src/closing.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(closing);

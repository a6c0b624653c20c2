//! `cargo fuzz run chunk_header`: see `src/chunk_header.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(chunk_header);

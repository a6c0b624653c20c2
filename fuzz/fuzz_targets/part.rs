//! `cargo fuzz run part`: see `src/part.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(part);

//! `cargo fuzz run compression`: see `src/compression.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(compression);

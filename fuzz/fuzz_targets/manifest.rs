//! `cargo fuzz run manifest`: see `src/manifest.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(manifest);

//! `cargo fuzz run repair`: see `src/repair.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(repair);

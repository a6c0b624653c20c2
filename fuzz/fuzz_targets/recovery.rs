//! `cargo fuzz run recovery`: see `src/recovery.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(recovery);

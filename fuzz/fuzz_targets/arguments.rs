//! `cargo fuzz run arguments`: see `src/arguments.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(arguments);

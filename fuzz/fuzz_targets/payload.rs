//! `cargo fuzz run payload`: see `src/payload.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(payload);

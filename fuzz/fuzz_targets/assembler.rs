//! `cargo fuzz run assembler`: see `src/assembler.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(assembler);

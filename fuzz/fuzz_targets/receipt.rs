//! `cargo fuzz run receipt`: see `src/receipt.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(receipt);

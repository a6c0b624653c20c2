//! `cargo fuzz run stored_message`: see `src/stored_message.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(stored_message);

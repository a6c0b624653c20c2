//! `cargo fuzz run channel`: see `src/channel.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(channel);

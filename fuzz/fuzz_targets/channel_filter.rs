//! `cargo fuzz run channel_filter`: see `src/channel_filter.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(channel_filter);

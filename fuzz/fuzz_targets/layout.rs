//! `cargo fuzz run layout`: see `src/layout.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(layout);

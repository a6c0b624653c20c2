//! `cargo fuzz run file_name`: see `src/file_name.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(file_name);

//! `cargo fuzz run subject`: see `src/subject.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(subject);

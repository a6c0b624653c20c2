//! `cargo fuzz run ledger`: see `src/ledger.rs`.

#![cfg_attr(fuzzing, no_main)]

natsfer_fuzz::program!(ledger);

//! How many runs there are, for those who only look.

use std::{fs, io, path::Path};

use natsfer_common::ReceiverName;

use super::{
    Shelf,
    queue::{place, run_of},
};

/// How many runs a receiver has in a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be run.
    pub pending: u64,
    /// Failed too often.
    pub failed: u64,
}

impl Counts {
    /// Counts them. Makes nothing: where nothing was ever noted, there are none. Blocking.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of(target: &Path, receiver: &ReceiverName) -> io::Result<Self> {
        let count = |shelf: Shelf| {
            let mut runs = 0;
            match fs::read_dir(target.join(place(receiver)).join(shelf.as_str())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                entries => {
                    for entry in entries? {
                        runs += u64::from(run_of(&entry?.file_name()).is_some());
                    }
                }
            }
            Ok::<_, io::Error>(runs)
        };
        Ok(Self { pending: count(Shelf::Pending)?, failed: count(Shelf::Failed)? })
    }
}

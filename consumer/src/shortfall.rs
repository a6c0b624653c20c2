//! Doing without what a file system cannot do, and saying so once.

use std::{
    io,
    sync::atomic::{AtomicU16, Ordering},
};

use crate::disk_error::{Ability, Call, Meaning, meaning};

/// What was found lacking, in whichever directory, and said.
static FOUND: AtomicU16 = AtomicU16::new(0);

/// What was done, or nothing where the place cannot do it: that is said, the first time. Other errors stay errors.
pub(crate) fn if_possible<T>(ability: Ability, result: Result<T, impl Into<io::Error>>) -> io::Result<Option<T>> {
    let error = match result {
        Ok(done) => return Ok(Some(done)),
        Err(error) => error.into(),
    };
    if meaning(Call::Do(ability), &error) != Meaning::Lacking {
        return Err(error);
    }
    if FOUND.fetch_or(bit(ability), Ordering::Relaxed) & bit(ability) == 0 {
        tracing::warn!("this file system cannot {}: {} ({error})", ability.what(), ability.consequence());
    }
    Ok(None)
}

/// Whether it was found lacking before.
pub(crate) fn is_known(ability: Ability) -> bool {
    FOUND.load(Ordering::Relaxed) & bit(ability) != 0
}

fn bit(ability: Ability) -> u16 {
    1 << ability as u16
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_cannot_be_done_is_done_without_and_what_fails_has_failed() {
        let with = |errno: Errno| if_possible(Ability::AccessLists, Err::<(), _>(errno));
        assert!(if_possible(Ability::AccessLists, Ok::<_, Errno>(1)).unwrap() == Some(1));
        assert_eq!(with(Errno::IO).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(!is_known(Ability::AccessLists));
        assert!(with(Errno::OPNOTSUPP).unwrap().is_none());
        assert!(is_known(Ability::AccessLists));
    }
}

//! Asking who has a file open for writing.
//!
//! Linux grants a read lease on a file only while nobody has, in whatever container, and whether by a descriptor or a mapping.

use std::{fs::File, io};

use super::{
    mappings,
    writers::{Why, Writers},
};

/// Asks for a file that is open for reading alone. If the answer is nobody, that stays so until the file is closed, which ends
/// the lease: who opens it for writing meanwhile, or cuts it short, waits.
pub(super) fn ask(file: &File) -> Writers {
    let sharing = sharing(file);
    match answer(take(file), sharing) {
        // A second witness, where the lease is none.
        Writers::Nobody if sharing == Sharing::Layered && mappings::are_seen(file) => Writers::Somebody,
        Writers::Unknown(_) if mappings::are_seen(file) => Writers::Somebody,
        writers => writers,
    }
}

/// Whether nobody has opened the file for writing since that was said, nor waits to.
pub(super) fn is_held(file: &File) -> bool {
    held(file)
}

/// Who else writes to a file system.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "no other system is asked"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Nobody: the system here knows of all who write.
    Local,
    /// Nobody else, but the lease knows nothing of mappings: they are of the file below an overlay.
    Layered,
    /// Others, of whom the system here does not know.
    Unseen,
    /// Others, and the server vouches for a lease. It may refuse one for other reasons than a writer.
    Vouched,
}

fn answer(taken: io::Result<()>, sharing: Sharing) -> Writers {
    match (taken.map_err(|error| error.kind()), sharing) {
        (Ok(()), Sharing::Local | Sharing::Layered | Sharing::Vouched) => Writers::Nobody,
        (Err(io::ErrorKind::WouldBlock), Sharing::Local | Sharing::Layered | Sharing::Unseen) => Writers::Somebody,
        (Ok(()) | Err(io::ErrorKind::WouldBlock), _) => Writers::Unknown(Why::Shared),
        (Err(io::ErrorKind::PermissionDenied), _) => Writers::Unknown(Why::NotOwner),
        (Err(_), _) => Writers::Unknown(Why::Unsupported),
    }
}

#[cfg(target_os = "linux")]
fn take(file: &File) -> io::Result<()> {
    /// Which libc lacks; the same wherever Rust has a standard library.
    const F_SETSIG: libc::c_int = 10;
    // The kernel sends a signal when somebody wants to write to the file: by default SIGIO, which would end the process. SIGURG is
    // ignored where nobody asks for it, and nobody does here.
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    fcntl(file, libc::F_SETLEASE, libc::F_RDLCK).map(|_| ())
}

#[cfg(target_os = "linux")]
fn held(file: &File) -> bool {
    // One that is being broken is said to be none.
    fcntl(file, libc::F_GETLEASE, 0).is_ok_and(|lease| lease == libc::F_RDLCK)
}

/// Neither rustix nor nix has these commands.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "there is no safe function for leases")]
fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is open for as long as the file is borrowed, and the commands given here take a number: they touch no
    // memory of ours.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

#[cfg(target_os = "linux")]
fn sharing(file: &File) -> Sharing {
    // The type is wider in some C libraries.
    match rustix::fs::fstatfs(file).map(|found| found.f_type as u32) {
        // NFS; SMB, CIFS and SMB 2.
        Ok(0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42) => Sharing::Vouched,
        // Overlays.
        Ok(0x794c_7630) => Sharing::Layered,
        // FUSE and virtiofs, 9P, shared folders of VirtualBox and Parallels, AFS (two), OCFS2, GFS2, Lustre, OrangeFS, Coda, GPFS, BeeGFS.
        Ok(
            0x6573_5546 | 0x0102_1997 | 0x786f_4256 | 0x7c7c_6673 | 0x6b41_4653 | 0x5346_414f | 0x7461_636f
            | 0x0116_1970 | 0x0bd0_0bd0 | 0x2003_0528 | 0x7375_7245 | 0x4750_4653 | 0x1983_0326,
        )
        | Err(_) => Sharing::Unseen,
        Ok(_) => Sharing::Local,
    }
}

#[cfg(not(target_os = "linux"))]
fn take(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn held(_: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn sharing(_: &File) -> Sharing {
    Sharing::Unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_as_far_as_the_system_knows_of_all_who_write() {
        use {Sharing::*, Writers::*};
        let refused = |kind: io::ErrorKind| Err(kind.into());
        let shared = Unknown(Why::Shared);
        for (sharing, granted, blocked) in [
            (Local, Nobody, Somebody),
            (Layered, Nobody, Somebody),
            (Unseen, shared, Somebody),
            (Vouched, Nobody, shared),
        ] {
            assert_eq!(answer(Ok(()), sharing), granted);
            assert_eq!(answer(refused(io::ErrorKind::WouldBlock), sharing), blocked);
            assert_eq!(answer(refused(io::ErrorKind::PermissionDenied), sharing), Unknown(Why::NotOwner));
            assert_eq!(answer(refused(io::ErrorKind::InvalidInput), sharing), Unknown(Why::Unsupported));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_writer_is_seen_and_one_that_comes_later_waits_and_does_no_harm() {
        use std::os::unix::fs::OpenOptionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        let writer = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        if ask(&file) == Writers::Unknown(Why::Unsupported) {
            return;
        }
        assert_eq!(ask(&file), Writers::Somebody);
        drop(writer);
        assert_eq!(ask(&file), Writers::Nobody);
        // It would wait. The signal that this sends would have ended us.
        let mut writing = File::options();
        writing.write(true).custom_flags(libc::O_NONBLOCK);
        assert!(is_held(&file));
        assert_eq!(writing.open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!is_held(&file));
        drop(file);
        assert!(writing.open(&path).is_ok());
    }
}

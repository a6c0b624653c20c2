//! Who has a file mapped for writing, as far as `/proc` shows: only what could be seen counts.
//!
//! A lease counts mappings, too, but for those on an overlay: they hold the file below, of which the overlay's lease knows nothing.

use std::{
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

/// Whether some process is seen to have the file mapped for writing. Blocking.
pub(super) fn are_seen(file: &File) -> bool {
    look(file).unwrap_or(false)
}

#[cfg(target_os = "linux")]
fn look(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.as_bytes();
    let metadata = file.metadata()?;
    for process in std::fs::read_dir("/proc")? {
        let process = process?;
        if !process.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Others' are not shown, nor those of a process that has ended.
        let Ok(maps) = std::fs::read(process.path().join("maps")) else { continue };
        let is_it = |Mapping { range, inode }: Mapping<'_>| {
            let mapped = process.path().join("map_files").join(range);
            // Where that may not be asked, the inode has to do.
            std::fs::metadata(mapped).map_or(inode == metadata.ino(), |mapped| same(&mapped, &metadata))
        };
        if writable(&maps, name).any(is_it) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(not(target_os = "linux"))]
fn look(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "no other system shows mappings"))]
fn same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// One mapping of a process.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "no other system shows mappings"))]
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    range: &'a str,
    inode: u64,
}

/// The mappings that are shared and may be written to, of files with this name.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "no other system shows mappings"))]
fn writable<'a>(maps: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Mapping<'a>> {
    maps.split(|byte| *byte == b'\n').filter_map(move |line| {
        // The first five fields have no spaces in them.
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let (range, rights) = (fields.next()?, fields.next()?);
        let inode = fields.nth(2)?;
        let path = Path::new(std::ffi::OsStr::from_bytes(fields.next()?.trim_ascii_start()));
        let wanted =
            rights.get(1) == Some(&b'w') && rights.get(3) == Some(&b's') && path.file_name()?.as_bytes() == name;
        let inode = str::from_utf8(inode).ok()?.parse().ok()?;
        wanted.then_some(Mapping { range: str::from_utf8(range).ok()?, inode })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_and_writable_mappings_of_that_name_count() {
        let maps = b"7f0-7f1 rw-s 00000000 00:28 8                          /srv/out box/a b\n\
                     7f1-7f2 r--s 00000000 00:28 8                          /srv/out box/a b\n\
                     7f2-7f3 rw-p 00000000 00:28 8                          /srv/out box/a b\n\
                     7f3-7f4 rw-s 00001000 fe:00 9                          /elsewhere/a b\n\
                     7f4-7f5 rw-s 00000000 fe:00 9                          /elsewhere/b\n\
                     7ffd-7ffe rw-p 00000000 00:00 0                        [stack]\n\
                     7fff-8000 rw-s 00000000 00:00 0 \n\nnonsense";
        let found: Vec<_> = writable(maps, b"a b").collect();
        assert_eq!(found, [Mapping { range: "7f0-7f1", inode: 8 }, Mapping { range: "7f3-7f4", inode: 9 }]);
    }

    #[test]
    fn a_file_that_nobody_maps_is_not_seen_to_be() {
        let home = tempfile::tempdir().unwrap();
        let file = File::create(home.path().join("a")).unwrap();
        assert!(!are_seen(&file));
    }
}

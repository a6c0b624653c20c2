//! Small files, which come inside their manifests' messages.

use std::{io::Write as _, path::PathBuf};

use bytes::Bytes;
use natsfer_common::{Digest, FileName, Inline, InlineError, Manifest, PartError};

use crate::{
    ConflictPolicy, Landing, ReceiveError, TargetDirectory,
    landing::{Forecast, forecast, land},
    part_files::finish_file,
    staging::{Owner, Staging},
};

/// The file that came inside its manifest's message.
pub(crate) fn decode_inline(
    manifest: &Manifest, inline: Inline, payload: Bytes, crc32: Option<&str>,
) -> Result<Bytes, ReceiveError> {
    let transfer = manifest.transfer;
    inline.decode(manifest, payload, crc32).map_err(|error| match error {
        InlineError::Damaged(reason) => ReceiveError::InlineDamaged { transfer, reason },
        InlineError::DigestMismatch { expected, found } => {
            PartError::DigestMismatch { transfer, expected, found }.into()
        }
    })
}

/// Lands one under this name. Blocking.
pub(crate) fn land_inline(
    manifest: &Manifest, name: &FileName, target: &TargetDirectory, owner: &Owner, policy: ConflictPolicy, raw: &[u8],
    digest: Digest,
) -> Result<(Landing, PathBuf), ReceiveError> {
    let content = (raw.len() as u64, digest);
    if let Forecast::Settled(landing, path) = forecast(target, name, policy, Some(content))? {
        return Ok((landing, path));
    }
    let staging = Staging::open(target, owner, manifest.transfer)?;
    let disk = |source| ReceiveError::Disk { doing: "cannot write", path: target.path_of(name), source };
    // Held, and with it its lock, until the file has its name.
    let Some(mut file) = staging.directory.locked(&staging.part).map_err(disk)? else {
        return Err(ReceiveError::Busy { transfer: manifest.transfer });
    };
    let reserved = target.reserve(&staging.directory, &staging.part, manifest.transfer, Some(content.0));
    let _reserved = reserved.inspect_err(|_| staging.clear())?;
    let written = file.set_len(0).and_then(|()| file.write_all(raw)).and_then(|()| finish_file(&file, manifest));
    let landed = written
        .map_err(disk)
        .and_then(|()| land(&staging.directory.dir, &staging.part, &file, target, name, policy, content));
    if landed.is_err() {
        staging.clear();
    }
    landed
}

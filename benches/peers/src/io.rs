//! Bytes written, as the operating system counts them.

use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that a process, or this one, gave to write calls, on files or anything else. (What `write_bytes`
/// beside it counts are whole folios made dirty, and a folio may have a megabyte.)
pub(crate) fn written(process: Option<u32>) -> Result<u64> {
    let path = match process {
        Some(id) => format!("/proc/{id}/io"),
        None => "/proc/self/io".to_owned(),
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("wchar:"))
        .and_then(|rest| rest.trim().parse().ok())
        .with_context(|| format!("no wchar in {path}"))
}

/// Bytes written to the disk that a folder is on, by anybody; `None` where the system does not say.
pub(crate) fn device_written(folder: &Path) -> Result<Option<u64>> {
    let device = std::fs::metadata(folder)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let Ok(text) = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")) else {
        return Ok(None);
    };
    let sectors: Option<u64> = text.split_whitespace().nth(6).and_then(|n| n.parse().ok());
    Ok(sectors.map(|n| n * 512))
}

/// Bytes on the disk of all files in a folder, holes left out.
pub(crate) fn on_disk(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() {
            on_disk(&entry.path())?
        } else {
            about.blocks() * 512
        };
    }
    Ok(sum)
}

//! The files of a folder, as they are and put back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// All files of a folder, by their names.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// The files in a folder. Of an idle open store, they are the files that a kill would leave.
pub(crate) fn image(folder: &Path) -> Image {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// The names in a folder, sorted, so that nothing is left behind unnoticed.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Leaves nothing but the image in a folder.
pub(crate) fn restore(folder: &Path, image: &Image) {
    for name in names(folder) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, content) in image {
        fs::write(folder.join(name), content).unwrap();
    }
}

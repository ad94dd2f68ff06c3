//! The archive of ring-3 programs that is embedded in the kernel.

use std::path::Path;

use crate::error::Error;

/// Packs `(name, bytes)` entries into a tar file. The result is reproducible, as it contains no owner and no date.
pub fn pack(entries: &[(String, Vec<u8>)]) -> Result<Vec<u8>, Error> {
    let mut builder = tar::Builder::new(Vec::new());
    let fail = |error| Error::File("cannot pack the programs".to_owned(), error);
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, &**bytes).map_err(fail)?;
    }
    builder.into_inner().map_err(fail)
}

/// Writes a file unless it already contains these bytes, so that cargo does not rebuild the crates that depend on it.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, error))?;
    }
    output::write(path, bytes).map_err(|error| Error::file("write", path, error))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn archive_reads_back_and_is_reproducible() {
        let entries = [("hello".to_owned(), vec![1, 2, 3]), ("spin".to_owned(), vec![7; 5000])];
        let packed = pack(&entries).expect("cannot pack");
        assert_eq!(packed, pack(&entries).expect("cannot pack"));
        let mut archive = tar::Archive::new(&*packed);
        let read: Vec<_> = archive
            .entries()
            .expect("cannot list the entries")
            .map(|entry| {
                let mut entry = entry.expect("cannot read the entry");
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("cannot read the entry");
                (entry.path().expect("the entry must have a path").display().to_string(), bytes)
            })
            .collect();
        assert_eq!(read, entries);
    }

    #[test]
    fn unchanged_file_is_not_written() {
        let folder = tempfile::tempdir().expect("cannot create a directory");
        let path = folder.path().join("a/b");
        write_if_changed(&path, b"x").expect("cannot write");
        let before = std::fs::metadata(&path).and_then(|data| data.modified()).expect("cannot read the time");
        write_if_changed(&path, b"x").expect("cannot write");
        assert_eq!(
            std::fs::metadata(&path).and_then(|data| data.modified()).expect("cannot read the time"),
            before
        );
        write_if_changed(&path, b"y").expect("cannot write");
        assert_eq!(std::fs::read(&path).expect("cannot read"), b"y");
    }
}

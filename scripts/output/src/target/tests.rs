use std::os::unix::fs::{FileTypeExt, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("cannot list");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("cannot read the folder").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("cannot read")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it must exist").permissions().mode() & 0o777
}

#[test]
fn file_is_replaced_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let path = folder.path().join("x");
    write(&path, b"one").expect("cannot create");
    let usual = folder.path().join("usual");
    fs::write(&usual, "").expect("cannot create");
    assert_eq!(mode(&path), mode(&usual), "a new file must have the usual rights");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("cannot set");
    write(&path, b"2").expect("cannot replace");
    assert_eq!((text(&path).as_str(), mode(&path)), ("2", 0o604));
    assert_eq!(names(folder.path()), ["usual", "x"]);
}

#[test]
fn unfinished_target_leaves_the_former_file() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let path = folder.path().join("x");
    fs::write(&path, "former").expect("cannot write");
    Target::create(&path).and_then(|mut target| target.write_all(b"new")).expect("cannot write");
    assert_eq!((text(&path).as_str(), names(folder.path()).len()), ("former", 1));
}

#[test]
fn two_writers_of_one_result_do_not_collide() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let path = folder.path().join("x");
    let mut both = [Target::create(&path).expect("cannot open"), Target::create(&path).expect("cannot open")];
    for (target, text) in both.iter_mut().zip([b"first", b"other"]) {
        target.write_all(text).expect("cannot write");
    }
    both.iter_mut().try_for_each(Target::finish).expect("cannot finish");
    assert_eq!((text(&path).as_str(), names(folder.path()).len()), ("other", 1));
}

#[test]
fn links_are_followed_and_kept() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).expect("cannot create");
    fs::write(at("sub/real"), "former").expect("cannot write");
    symlink("sub/real", at("link")).expect("cannot link");
    symlink("link", at("to a link")).expect("cannot link");
    symlink("sub/absent", at("dangling")).expect("cannot link");
    symlink("loop", at("loop")).expect("cannot link");
    write(at("to a link"), b"new").expect("cannot write");
    assert_eq!(text(&at("sub/real")), "new");
    write(at("dangling"), b"created").expect("cannot write");
    assert_eq!(text(&at("sub/absent")), "created");
    for link in ["link", "to a link", "dangling"] {
        assert!(fs::symlink_metadata(at(link)).expect("it must exist").is_symlink(), "{link}");
    }
    assert!(write(at("loop"), b"x").is_err());
}

#[test]
fn fifo_and_device_are_written_in_place() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("cannot create");
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || text(&fifo)
    });
    write(&fifo, b"through").expect("cannot write");
    assert_eq!(reader.join().expect("cannot read"), "through");
    assert!(fs::symlink_metadata(&fifo).expect("it must exist").file_type().is_fifo());
    let link = folder.path().join("full");
    symlink("/dev/full", &link).expect("cannot link");
    assert_eq!(write(&link, b"x").expect_err("the write must fail").kind(), ErrorKind::StorageFull);
    assert!(![fifo, link, "-".into()].iter().any(|path| is_replaced(path)));
    assert!(is_replaced(&folder.path().join("absent")));
    write(Path::new("/dev/null"), b"x").expect("cannot write");
    assert!(fs::metadata("/dev/null").expect("it must exist").file_type().is_char_device());
}

#[test]
fn fifo_with_a_closed_reader_is_not_an_error() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("cannot create");
    // Open both ends with one call, so that opening the writer does not wait.
    let reader = File::options().read(true).write(true).open(&fifo).expect("cannot open");
    let mut target = Target::create(&fifo).expect("cannot open");
    drop(reader);
    target.write_all(b"one").and_then(|()| target.write_all(b"two")).expect("unexpected error");
    target.finish().expect("unexpected error");
}

#[test]
fn open_file_of_this_process_is_appended_to() {
    let folder = tempfile::tempdir().expect("cannot create a folder");
    let path = folder.path().join("x");
    fs::write(&path, "former ").expect("cannot write");
    let file = File::options().append(true).open(&path).expect("cannot open");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    write(Path::new(&format!("/dev/fd/{fd}")), b"new").expect("cannot write");
    let inode = |data: Metadata| data.ino();
    assert_eq!(
        inode(fs::metadata(&path).expect("it must exist")),
        inode(file.metadata().expect("cannot read the metadata"))
    );
    assert_eq!(text(&path), "former new");
}

#[test]
fn error_does_not_name_the_temporary_file() {
    let error = write(Path::new("/nonexistent/x"), b"").expect_err("the folder does not exist");
    assert_eq!(error.to_string(), "No such file or directory (os error 2)");
}

use std::io::Read;

use super::*;

fn files() -> Vec<File> {
    vec![
        File { path: "EFI/BOOT/BOOTX64.EFI", bytes: (0..100_000_u32).flat_map(u32::to_le_bytes).collect() },
        File { path: "ringside/cmdline.txt", bytes: b"program=hello".to_vec() },
        File { path: "ringside/program", bytes: Vec::new() },
    ]
}

#[test]
fn files_are_read_back() {
    let disk = disk(&files()).expect("cannot create the image");
    let table = GptConfig::new().open_from_device(Cursor::new(disk.clone())).expect("there must be a table");
    let entries: Vec<_> = table.partitions().values().filter(|entry| entry.is_used()).collect();
    let [entry] = entries[..] else { panic!("{} partitions", entries.len()) };
    assert_eq!(entry.part_type_guid, EFI);
    let range = entry.first_lba as usize * SECTOR..(entry.last_lba as usize + 1) * SECTOR;
    assert!(range.start % MIB == 0 && range.end % MIB == 0, "{range:?}");
    let system = FileSystem::new(Cursor::new(disk[range].to_vec()), FsOptions::new())
        .expect("there must be a file system");
    assert_eq!(system.fat_type(), FatType::Fat32);
    for file in files() {
        let mut bytes = Vec::new();
        system
            .root_dir()
            .open_file(file.path)
            .expect("there must be a file")
            .read_to_end(&mut bytes)
            .expect("cannot read the file");
        assert_eq!(bytes, file.bytes, "{}", file.path);
    }
}

#[test]
fn equal_files_give_equal_images() {
    assert!(
        disk(&files()).expect("cannot create the image") == disk(&files()).expect("cannot create the image")
    );
    let mut other = files();
    other[1].bytes.push(b'x');
    assert!(
        disk(&files()).expect("cannot create the image") != disk(&other).expect("cannot create the image")
    );
}

#[test]
fn image_has_room_for_its_files() {
    let large = vec![File { path: "ringside/program", bytes: vec![1; 20 * MIB + 1] }];
    assert_eq!(disk(&large).expect("cannot create the image").len(), (20 + 1 + 34 + 2) * MIB);
}

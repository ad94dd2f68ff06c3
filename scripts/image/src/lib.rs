//! A disk image with a GUID partition table and one partition, an EFI system partition (ESP) with a FAT32 file system.
//!
//! The image depends only on the files: identifiers and times are constants, so equal files give equal images.
//!
//! This crate is separate from the host tool, which builds and starts it when an image is needed: its packages would
//! make the first build of the tool longer.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write their own files, and a failed write fails the test"
    )
)]

use std::io::{self, Cursor, Write};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::EFI;
use uuid::Uuid;

/// Size of a sector, in bytes.
const SECTOR: usize = 512;
/// One MiB: the partition begins and ends at multiples of it.
const MIB: usize = 1 << 20;
/// Free space of the partition, in bytes. A FAT32 file system has at least 65,525 clusters, here of one sector, and
/// firmware takes a smaller one for FAT16, whatever its header says.
const FREE: usize = 34 * MIB;

/// The identifiers of all images of this tool. They are random, but constant.
const DISK: u128 = 0x6e2b_7a4f_93c1_4d58_8b0e_51d7_2f6a_c903;
const PARTITION: u128 = 0xb14c_0d92_5e7f_4a36_9c28_e0f3_47a1_6d5b;
const VOLUME: u32 = 0x5249_4e47;

/// A file on the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path, with `/` between its parts.
    pub path: &'static str,
    /// The contents.
    pub bytes: Vec<u8>,
}

/// The time of all files: the earliest that FAT can represent.
#[derive(Debug)]
struct Earliest;

static EARLIEST: Earliest = Earliest;

impl TimeProvider for Earliest {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// Creates the image of a disk whose partition contains these files.
///
/// # Errors
/// If a file is too large for FAT32.
pub fn disk(files: &[File]) -> io::Result<Vec<u8>> {
    let partition = partition(files)?;
    // The first MiB holds the partition table, the last its copy.
    let mut disk = vec![0; partition.len() + 2 * MIB];
    disk[MIB..MIB + partition.len()].copy_from_slice(&partition);
    let sectors = (disk.len() / SECTOR) as u32;
    let mut disk = Cursor::new(disk);
    ProtectiveMBR::with_lb_size(sectors - 1).overwrite_lba0(&mut disk).map_err(io::Error::other)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(disk, Some(Uuid::from_u128(DISK))).map_err(io::Error::other)?;
    let alignment = Some((MIB / SECTOR) as u64);
    let number = table
        .add_partition("Ringside", partition.len() as u64, EFI, 0, alignment)
        .map_err(io::Error::other)?;
    let mut entries = table.take_partitions();
    if let Some(entry) = entries.get_mut(&number) {
        // The crate would choose a random identifier.
        entry.part_guid = Uuid::from_u128(PARTITION);
        assert_eq!(entry.first_lba, (MIB / SECTOR) as u64, "the partition must begin after the first MiB");
    }
    table.update_partitions(entries).map_err(io::Error::other)?;
    Ok(table.write().map_err(io::Error::other)?.into_inner())
}

/// Creates the file system.
fn partition(files: &[File]) -> io::Result<Vec<u8>> {
    let used: usize = files.iter().map(|file| file.bytes.len().next_multiple_of(SECTOR)).sum();
    let mut partition = Cursor::new(vec![0; (used + FREE).next_multiple_of(MIB)]);
    let format = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(SECTOR as u32)
        .volume_id(VOLUME)
        .volume_label(*b"RINGSIDE   ");
    fatfs::format_volume(&mut partition, format)?;
    {
        let options = FsOptions::new().time_provider(&EARLIEST).update_accessed_date(false);
        let system = FileSystem::new(&mut partition, options)?;
        for file in files {
            let mut folder = system.root_dir();
            let mut parts = file.path.split('/').peekable();
            while let Some(part) = parts.next() {
                if parts.peek().is_some() {
                    folder = folder.create_dir(part)?;
                } else {
                    folder.create_file(part)?.write_all(&file.bytes)?;
                }
            }
        }
        system.unmount()?;
    }
    Ok(partition.into_inner())
}

#[cfg(test)]
mod tests;

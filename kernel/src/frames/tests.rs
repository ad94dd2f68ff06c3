use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn region(start: u64, len: u64) -> Region {
    Region { start, len }
}

#[test]
fn range_is_covered_by_regions_that_adjoin() {
    let regions = [(0x3000, 0x1000), (0x1000, 0x800), (0x1400, 0x1c00), (0x9000, 0xfff), (0xb000, 0)];
    let regions = regions.map(|(start, len)| Region { start, len });
    let covers = |range| covers(regions.into_iter(), range);
    for range in [0x1000..0x4000, 0x1000..0x1001, 0x3fff..0x4000, 0x9000..0x9fff, 0x5000..0x5000] {
        assert!(covers(range.clone()), "{range:x?}");
    }
    for range in [0xfff..0x2000, 0x1000..0x4001, 0x9000..0xa000, 0x4000..0x4001, 0..u64::MAX, 0xb000..0xb001]
    {
        assert!(!covers(range.clone()), "{range:x?}");
    }
    let all = [Region { start: 0, len: u64::MAX }];
    assert!(super::covers(all.into_iter(), 0..PHYS_END) && !super::covers(all.into_iter(), 0..PHYS_END + 1));
}

#[test]
fn usable_shrinks_and_reserved_grows_to_frame_boundaries() {
    let mut words = [u64::MAX; 1];
    let map = FrameBitmap::new(&mut words, [region(0x1001, 0x4fff)], [region(0x3fff, 1)]);
    let free: Vec<_> = (0..64).filter(|&n| map.is_free(Frame(n))).collect();
    assert_eq!(free, [2, 4, 5]);
    assert_eq!((map.free_count(), map.total_usable()), (3, 3));
}

#[test]
fn unusual_memory_maps_are_accepted() {
    let mut words = [0; 1];
    let odd = [region(u64::MAX, u64::MAX), region(0x5000, 0), region(0x2000, 0x2000), region(0x1000, 0x2000)];
    let map = FrameBitmap::new(&mut words, odd, [region(0x1000, 0), region(u64::MAX - 1, 9)]);
    assert_eq!(map.free_count(), 3);
    assert_eq!(highest_end(odd), 0x4000);
    assert_eq!(highest_end([region(0x1000, u64::MAX)]), PHYS_END);
    assert_eq!(highest_end([region(0x1001, 0x100)]), 0);
    assert_eq!((words_for(0), words_for(1), words_for(64 * 4096), words_for(64 * 4096 + 1)), (0, 1, 1, 2));
}

#[test]
fn low_memory_is_allocated_last_and_lowest_first_on_request() {
    let mut words = vec![0; words_for(2 * MIB)];
    let mut map = FrameBitmap::new(&mut words, [region(0, 2 * MIB)], [region(0, 0x10000)]);
    assert_eq!(map.alloc(), Some(Frame::containing(MIB)));
    assert_eq!(map.alloc_below(MIB).map(Frame::start), Some(0x10000));
    assert_eq!(map.alloc_below(MIB).map(Frame::start), Some(0x11000));
    assert_eq!(map.alloc_below(0x12fff), None);
    for _ in 1..256 {
        assert!(map.alloc().unwrap().start() > MIB);
    }
    assert_eq!(map.alloc().map(Frame::start), Some(0x12000));
}

#[test]
fn invalid_frees_are_rejected_without_effect() {
    let mut words = [0; 1];
    let mut map = FrameBitmap::new(&mut words, [region(0, 0x4000)], []);
    assert_eq!(map.free(Frame(9)), Err(FrameError::NotAllocated(Frame(9))));
    let frame = map.alloc().unwrap();
    map.free(frame).unwrap();
    assert_eq!(map.free(frame), Err(FrameError::DoubleFree(frame)));
    let far = Frame::containing(u64::MAX);
    assert_eq!(map.free(far), Err(FrameError::OutOfRange(far)));
    assert_eq!(map.free_count(), 4);
    let text = std::format!("{}", FrameError::DoubleFree(Frame(1)));
    assert_eq!(text, "the physical frame at 0x1000 was freed twice");
}

#[test]
fn empty_pool_has_no_frames() {
    let mut map = FrameBitmap::new(&mut [], [region(0, 1 << 40)], []);
    assert_eq!((map.alloc(), map.alloc_below(u64::MAX), map.free_count()), (None, None, 0));
}

#[test]
fn bitmap_is_placed_outside_reserved_regions() {
    let usable = [region(8 * MIB, 8 * MIB), region(0, 0x9_f000), region(MIB, 3 * MIB)];
    assert_eq!(place(4096, usable, []), Some(MIB));
    let kernel = [region(2 * MIB, MIB + 1), region(MIB, MIB)];
    assert_eq!(place(4096, usable, kernel), Some(3 * MIB + 4096));
    assert_eq!(place(MIB, usable, kernel), Some(8 * MIB));
    assert_eq!(place(9 * MIB, usable, kernel), None);
    assert_eq!(place(u64::MAX, usable, kernel), None);
    assert_eq!(place(4096, [region(0, MIB)], []), None);
}

fn regions() -> impl Strategy<Value = Vec<Region>> {
    let near = (0..2 * MIB, 0..MIB).prop_map(|(start, len)| region(start, len));
    let any = (any::<u64>(), any::<u64>()).prop_map(|(start, len)| region(start, len));
    prop::collection::vec(prop_oneof![9 => near, 1 => any], 0..8)
}

#[derive(Clone, Debug)]
enum Op {
    Alloc,
    Below(u64),
    Free(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![Just(Op::Alloc), (0..4 * MIB).prop_map(Op::Below), (0..800_u64).prop_map(Op::Free)]
}

proptest! {
    #[test]
    fn agrees_with_a_set_of_frames(
        usable in regions(), reserved in regions(), ops in prop::collection::vec(op(), 0..400)
    ) {
        let mut words = vec![!0; words_for(3 * MIB)];
        let mut map = FrameBitmap::new(&mut words, usable.iter().copied(), reserved.iter().copied());
        // The model calculates in bytes with 128-bit integers, so that it shares no rounding with the code under test.
        let inside = |n: u64, r: &Region| {
            let (start, end) = (u128::from(r.start), u128::from(r.start) + u128::from(r.len));
            let (first, last) = (u128::from(n) * 4096, u128::from(n) * 4096 + 4095);
            (start <= first && last < end, start <= last && first < end && r.len > 0)
        };
        let mut free: BTreeSet<u64> = (0..768)
            .filter(|&n| usable.iter().any(|r| inside(n, r).0))
            .filter(|&n| !reserved.iter().any(|r| inside(n, r).1))
            .collect();
        let total = free.len() as u64;
        for op in ops {
            match op {
                Op::Alloc => match map.alloc() {
                    Some(frame) => prop_assert!(free.remove(&frame.number())),
                    None => prop_assert!(free.is_empty()),
                },
                Op::Below(limit) => {
                    let lowest = free.first().copied().filter(|n| (n + 1) * 4096 <= limit);
                    prop_assert_eq!(map.alloc_below(limit).map(Frame::number), lowest);
                    lowest.map(|n| free.remove(&n));
                }
                Op::Free(n) => {
                    let may = n < 768 && !free.contains(&n) && (free.len() as u64) < total;
                    prop_assert_eq!(map.free(Frame(n)).is_ok(), may);
                    if may {
                        free.insert(n);
                    }
                }
            }
            prop_assert_eq!(map.free_count(), free.len() as u64);
        }
        prop_assert_eq!(map.total_usable(), total);
    }

    #[test]
    fn a_place_is_usable_and_free(usable in regions(), reserved in regions(), bytes in 1..2 * MIB) {
        let found = place(bytes, usable.iter().copied(), reserved.iter().copied());
        if let Some(start) = found {
            prop_assert!(start >= MIB && start.is_multiple_of(4096));
            let mut words = vec![0; 4 * words_for(MIB)];
            let map = FrameBitmap::new(&mut words, usable, reserved);
            let end = (start + bytes).min(4 * MIB);
            for addr in (start..end).step_by(4096) {
                prop_assert!(map.is_free(Frame::containing(addr)));
            }
        }
    }
}

//! Tests of `paths`.

use super::super::boots::Boot;
use super::*;

/// jz 1f; nop; 1: call 2f; 2: iretq
const BRANCH: &[u8] = &[0x74, 1, 0x90, 0xe8, 0, 0, 0, 0, 0x48, 0xcf];

fn addresses(taken: &'static [bool], ends_in_call: bool) -> Result<Vec<u64>, InjectError> {
    Path { name: "test", entry: "test", taken, ends_in_call, calls: None }
        .addresses(&Code::of(&[("test", 0x1000, BRANCH)]))
}

#[test]
fn path_follows_its_branches() {
    assert_eq!(addresses(&[true], false).expect("there must be a path"), [0x1000, 0x1003, 0x1008]);
    assert_eq!(addresses(&[false], false).expect("there must be a path"), [0x1000, 0x1002, 0x1003, 0x1008]);
    assert_eq!(addresses(&[true], true).expect("there must be a path"), [0x1000, 0x1003]);
    assert!(addresses(&[true, true], false).is_err(), "a list of two branches must be rejected");
}

#[test]
fn path_of_a_frame_handler_continues_in_its_entry() {
    // call [r11]; iretq, and jmp to the iretq
    let entry: &[u8] = &[0x41, 0xff, 0x13, 0x48, 0xcf];
    let frame: &[u8] = &[0xe9, 0xfe, 0xff, 0xef, 0xff];
    let code = Code::of(&[("test", 0x10_1000, entry), ("frame", 0x20_1000, frame)]);
    let of = |calls| {
        let path = Path { name: "test", entry: "test", taken: &[], ends_in_call: false, calls };
        path.addresses(&code).expect("there must be a path")
    };
    assert_eq!(of(None), [0x10_1000, 0x10_1003]);
    assert_eq!(of(Some("frame")), [0x10_1000, 0x20_1000, 0x10_1003]);
}

#[test]
fn rsp_is_the_users_until_the_stack_switch_and_after_the_switch_back() {
    // swapgs; mov rsp, rax; nop; jz 1f; mov rsp, [rsp]; swapgs; sysretq; 1: ret
    let code = [
        0x0f, 0x01, 0xf8, 0x48, 0x89, 0xc4, 0x90, 0x74, 10, 0x48, 0x8b, 0x24, 0x24, 0x0f, 0x01, 0xf8, 0x48,
        0x0f, 0x07, 0xc3,
    ];
    let code = Code::of(&[("syscall_entry", 0x1000, &code)]);
    assert_eq!(with_user_rsp(&code).expect("the path must switch stacks"), [0x1000, 0x1003, 0x100d, 0x1010]);
}

#[test]
fn instruction_on_no_path_is_an_error() {
    let all = Code::of(&[("vector_fd", 0x1000, &[0x90, 0xc3])]);
    assert!(check_coverage(&all).is_err(), "most of the paths' functions are missing");
}

#[test]
fn every_path_has_a_unique_name_and_a_boot() {
    let names: Vec<_> = all().map(|path| path.name).collect();
    let distinct: BTreeSet<_> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(!names.iter().any(|name| is_hostile(name)));
    let booted: BTreeSet<_> = Boot::all(&[0, 1]).into_iter().flat_map(Boot::paths).collect();
    assert!(booted.is_superset(&distinct));
    // The others are `rsp-nmi-stack` and `nmi-lost`.
    assert_eq!(booted.len(), distinct.len() + HOSTILE.len() + 2);
}

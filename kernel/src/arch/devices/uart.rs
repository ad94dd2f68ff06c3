//! The machine's serial ports: COM1 to COM4 and those of PCI cards. A CPU may have its own port.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use pci_types::{Bar, ConfigRegionAccess, EndpointHeader, PciAddress, PciHeader};
use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::port::Port;

use crate::arch::cpu::tsc;
use crate::cmdline::UartFault;
use crate::transmit::{self, Transmitter};
use crate::uart_probe::{self, Registers};

/// An initialised UART.
pub type Uart = Transmitter<Device>;

/// The hardware device of a [`Uart`].
#[derive(Debug)]
pub struct Device(Uart16550<PioBackend>);

/// The fault that a test has injected in all UARTs.
static STUCK: AtomicBool = AtomicBool::new(false);
static ABSENT: AtomicBool = AtomicBool::new(false);

/// Injects a fault in all UARTs, or ends the injection.
pub(in crate::arch) fn inject(fault: Option<UartFault>) {
    STUCK.store(matches!(fault, Some(UartFault::Stuck | UartFault::StuckInRing3)), Ordering::Relaxed);
    ABSENT.store(fault == Some(UartFault::Absent), Ordering::Relaxed);
}

impl transmit::Port for Device {
    fn write(&mut self, bytes: &[u8]) -> usize {
        if STUCK.load(Ordering::Relaxed) { 0 } else { self.0.send_bytes(bytes) }
    }

    fn is_absent(&mut self) -> bool {
        // Reading a port to which no device responds returns all ones. A UART never reports all errors at the same
        // time.
        ABSENT.load(Ordering::Relaxed) || self.0.lsr().bits() == 0xff
    }

    fn now(&self) -> u64 {
        tsc::now()
    }
}

/// First I/O ports of COM1 to COM4.
pub const COM: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];
/// The number of I/O ports of a UART.
const REGISTERS: u16 = 8;

/// The baud rate of all UARTs, unless the firmware's tables name another for the console.
pub const BAUD: u32 = 115_200;

/// The base of the console's UART.
static CONSOLE: AtomicU16 = AtomicU16::new(COM[0]);

/// The registers of a UART, before it is initialised.
struct Ports(u16);

impl Registers for Ports {
    fn read(&mut self, offset: u16) -> u8 {
        // SAFETY: the caller of `open` guarantees that the ports belong to a UART or to no device. `is_working` reads
        // only status and control registers, whose reads clear error bits at most.
        unsafe { Port::new(self.0 + offset).read() }
    }

    fn write(&mut self, offset: u16, value: u8) {
        // SAFETY: as above; `is_working` writes only the modem control register, and restores its value.
        unsafe { Port::new(self.0 + offset).write(value) }
    }

    fn now(&self) -> u64 {
        tsc::now()
    }
}

/// Initialises the UART at an I/O port base. Returns `None` if there is no working UART. If `baud` is `None`, the UART
/// keeps the baud rate that the firmware has set.
#[must_use]
pub fn open(base: u16, baud: Option<u32>) -> Option<Uart> {
    if !uart_probe::is_working(&mut Ports(base)) {
        return None;
    }
    // SAFETY: every caller passes the base of COM1 to COM4, one from a serial card's BAR, or one from the firmware's
    // tables, so the ports belong to a UART or to no device.
    let mut uart = unsafe { Uart16550::new_port(base) }.ok()?;
    let baud = baud.unwrap_or_else(|| {
        let (low, high) = uart.dll_dlm();
        BAUD / u32::from(u16::from_le_bytes([low, high])).max(1)
    });
    // The crate rejects a rate that the divisor of the UART's clock cannot produce.
    let baud_rate =
        if baud != 0 && BAUD.is_multiple_of(baud) { BaudRate::Custom(baud) } else { BaudRate::Baud115200 };
    uart.init(Config { baud_rate, ..Config::DEFAULT }).ok()?;
    Some(Transmitter::new(Device(uart)))
}

/// Opens the UART at this base as the console's. Returns `None`, without an effect on the console's port, if there is
/// no working UART.
#[must_use]
pub fn open_console(base: u16, baud: Option<u32>) -> Option<Uart> {
    let uart = open(base, baud)?;
    CONSOLE.store(base, Ordering::Relaxed);
    Some(uart)
}

/// How long [`drain`] waits, in TSC ticks. At 115,200 baud, 16 bytes take 1.4 ms.
const DRAIN_TICKS: u64 = 1 << 28;

/// Waits until the console's UART has sent what its FIFO contains, which a reset or power-off would discard.
pub(super) fn drain() {
    /// The offset of the line status register, and its bit "transmitter empty". The bit is also set if no device
    /// responds.
    const LINE_STATUS: u16 = 5;
    const EMPTY: u8 = 1 << 6;
    let mut status = Port::<u8>::new(CONSOLE.load(Ordering::Relaxed) + LINE_STATUS);
    let start = tsc::now();
    // SAFETY: the port belongs to a UART or to no device. The read clears error bits only, and the run has ended.
    while unsafe { status.read() } & EMPTY == 0 && tsc::now().wrapping_sub(start) < DRAIN_TICKS {
        core::hint::spin_loop();
    }
}

/// The location of a UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A COM port, by its number: COM1 is 1.
    Com(u8),
    /// A port of a PCI serial card.
    Pci {
        /// The card's device number on bus 0.
        slot: u8,
        /// The port's number on the card, from 0.
        port: u8,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Com(number) => write!(f, "COM{number}"),
            Place::Pci { slot, port } => write!(f, "port {port} of the PCI card in slot {slot:#x}"),
        }
    }
}

/// Iterates over all UARTs except the console's. Each UART is initialised when the iterator reaches it.
pub fn others() -> impl Iterator<Item = (Place, Uart)> {
    let console = CONSOLE.load(Ordering::Relaxed);
    let com = COM.into_iter().zip(1..).map(|(base, number)| (Place::Com(number), base));
    let others = com.chain(pci()).filter(move |(_, base)| *base != console);
    others.filter_map(|(place, base)| Some((place, open(base, Some(BAUD))?)))
}

/// Iterates over the ports of serial cards on bus 0. QEMU's cards (docs/specs/pci-serial) have 8 I/O ports for each
/// UART in BAR 0.
fn pci() -> impl Iterator<Item = (Place, u16)> {
    (0..32).flat_map(|slot| {
        let (base, ports) = card(slot).unwrap_or((0, 0));
        (0..ports).map(move |port| (Place::Pci { slot, port }, base + u16::from(port) * REGISTERS))
    })
}

/// Returns the first I/O port of the serial card in a slot and the number of its UARTs; `None` if there is no serial
/// card in the slot.
fn card(slot: u8) -> Option<(u16, u8)> {
    let header = PciHeader::new(PciAddress::new(0, 0, slot, 0));
    // Match Red Hat's vendor id. The device id gives the number of UARTs.
    let ports = match header.id(ConfigPorts) {
        (0x1b36, 2) => 1,
        (0x1b36, 3) => 2,
        (0x1b36, 4) => 4,
        _ => return None,
    };
    match EndpointHeader::from_header(header, ConfigPorts)?.bar(0, ConfigPorts)? {
        Bar::Io { port } if port != 0 => Some((u16::try_from(port).ok()?, ports)),
        _ => None,
    }
}

/// PCI's configuration space through ports 0xCF8 and 0xCFC (PCI Local Bus Specification 3.0, 3.2.2.3.2). Only the BSP
/// uses it, at boot, so the two accesses need no lock.
#[derive(Clone, Copy)]
struct ConfigPorts;

impl ConfigPorts {
    fn select(address: PciAddress, offset: u16) -> Port<u32> {
        let word = 1 << 31
            | u32::from(address.bus()) << 16
            | u32::from(address.device()) << 11
            | u32::from(address.function()) << 8
            | u32::from(offset & 0xfc);
        // SAFETY: the write selects a configuration register and has no other effect.
        unsafe { Port::new(0xcf8).write(word) };
        Port::new(0xcfc)
    }
}

impl ConfigRegionAccess for ConfigPorts {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        // SAFETY: the address is valid (contract of the trait), and reading configuration space has no effect.
        unsafe { ConfigPorts::select(address, offset).read() }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        // SAFETY: the caller guarantees that the write is sound (contract of the trait).
        unsafe { ConfigPorts::select(address, offset).write(value) }
    }
}

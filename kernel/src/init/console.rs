//! The steps of the boot sequence that set up the console: the screen, and the UART that the firmware's tables name.

use kernel::arch::boot::{self, BootInfo};
use kernel::arch::devices::{serial, uart};
use kernel::arch::memory::acpi::Tables;
use kernel::arch::memory::paging::MapError;
use kernel::arch::memory::{frame_buffer, physmem};
use kernel::arch::percpu::PerCpuData;
use kernel::physmap::phys_to_virt;
use kernel::screen::{Mode, ScreenError};
use kernel::spcr::SerialConsole;
use kernel::{say, warn};
use spin::Once;

/// The reason why the frame buffer is not mapped, if [`map_screen`] failed.
static MAP_ERROR: Once<MapError> = Once::new();

fn mode(info: &BootInfo) -> Result<Option<Mode>, ScreenError> {
    Mode::of(&info.frame_buffer, physmem::address_end(), info.regions().iter().map(|region| region.range))
}

/// Shows the console on the screen, if the boot page tables map the frame buffer. Before this call, only the UART can
/// show why the boot has failed.
///
/// # Safety
/// Called once, on the BSP, with the boot page tables. [`map_screen`] is called after other page tables are loaded.
pub unsafe fn show_early(info: &BootInfo) {
    if let Ok(Some(mode)) = mode(info)
        && boot::is_mapped(mode.start, mode.bytes(), 1)
    {
        // SAFETY: the boot page tables map the frame buffer writable in the physical map.
        unsafe { serial::set_screen(mode, Some(phys_to_virt(mode.start).cast())) };
    }
}

/// Maps the frame buffer into the kernel's half and shows the console on it. If that fails, the console has no screen.
///
/// # Safety
/// Called once, on the BSP, directly after the kernel's page tables are loaded for the first time.
pub unsafe fn map_screen(info: &BootInfo) {
    let Ok(Some(mode)) = mode(info) else { return };
    // SAFETY: without an address nothing is drawn. The earlier address is no longer mapped. The loader has reported the
    // frame buffer, and the second address stays mapped.
    unsafe {
        serial::set_screen(mode, None);
        match frame_buffer::map(&mode) {
            Ok(address) => serial::set_screen(mode, Some(address)),
            Err(error) => {
                serial::remove_screen();
                MAP_ERROR.call_once(|| error);
            }
        }
    }
}

/// Reports the screen, or the reason why the console is not shown on it.
pub fn report_screen(bsp: &PerCpuData, info: &BootInfo) {
    match mode(info) {
        Ok(Some(_)) if let Some(error) = MAP_ERROR.get() => {
            warn!(bsp, "the screen is not used: its frame buffer cannot be mapped: {error}");
        }
        Ok(Some(mode)) => {
            let Mode { width, height, columns, rows, .. } = mode;
            say!(bsp, "screen of {width}x{height} pixels, {columns}x{rows} characters");
        }
        Ok(None) => {}
        Err(error) => warn!(bsp, "the screen is not used: {error}"),
    }
}

/// Moves the console to the UART that the firmware's tables name. If they say that the machine has no serial console,
/// the console uses only the screen. Without a screen the console keeps the serial port, because firmware may disable
/// its own console on a machine whose serial port works.
pub fn choose_uart(bsp: &PerCpuData, tables: Option<&Tables>) {
    let Some(console) = tables.and_then(Tables::serial_console) else { return };
    match console {
        SerialConsole::Ports { base, baud: None | Some(uart::BAUD) } if base == uart::COM[0] => {}
        SerialConsole::Ports { base, baud } => match uart::open_console(base, baud) {
            Some(uart) => {
                serial::set_uart(Some(uart));
                say!(bsp, "the console is the UART at port {base:#x}, as the firmware's table SPCR says");
            }
            None => warn!(bsp, "the firmware's table SPCR names a UART at port {base:#x}, but none responds"),
        },
        SerialConsole::Disabled if serial::has_screen() => serial::set_uart(None),
        SerialConsole::Disabled => {}
        SerialConsole::Unsupported => {
            warn!(
                bsp,
                "the firmware's table SPCR names a UART that is not a 16550 at I/O ports; it is not used"
            );
        }
    }
}

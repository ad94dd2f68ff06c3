//! The legacy interrupt controllers (8259A): remapped away from the exception vectors and masked permanently.

use x86_64::instructions::port::Port;

/// Remaps the two 8259s to vectors 0x20 to 0x2f and masks all their lines (8259A data sheet, ICW1 to ICW4). Firmware
/// leaves the PICs on vectors that exceptions use, and leaves the interval timer (8254) running.
pub fn mask_all() {
    // Command and data port, first vector, cascade wiring.
    for (command, data, vector, cascade) in [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)] {
        let (mut command, mut data) = (Port::<u8>::new(command), Port::<u8>::new(data));
        // SAFETY: these are the PICs' ports on every PC, and nothing else in the kernel uses them.
        unsafe {
            command.write(0x11); // initialise, edge triggered, cascaded, ICW4 follows
            data.write(vector);
            data.write(cascade);
            data.write(0x01); // 8086 mode
            data.write(0xff); // every line masked
        }
    }
}

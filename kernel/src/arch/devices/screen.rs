//! The screen as a part of the console: its text, and the frame buffer that shows it.
//!
//! Writing a line changes the text immediately. The writer then calls [`Screen::draw`] before it releases the console's
//! lock. The CPU that writes a program's line handles interrupts after each row of text that it draws. A CPU that
//! writes a kernel line draws at most one screen, with interrupts off. No other code draws: neither the tick nor any
//! other interrupt handler.

use core::sync::atomic::{Ordering, fence};

use kernel_abi::record::Record;
use spin::{Mutex, MutexGuard};

use crate::screen::{Cells, Colour, Mode, Results, draw};

/// The text of the screen. It is part of the kernel's image, so that a failure that occurs before the frame allocator
/// is set up can be shown.
static CELLS: Mutex<Cells> = Mutex::new(Cells::new());

/// A screen.
pub struct Screen {
    mode: Mode,
    cells: &'static mut Cells,
    results: Results,
    /// The frame buffer; `None` while it is not mapped. Lines that are written while it is not mapped are drawn later.
    memory: Option<Memory>,
    /// Whether the pixels that no character covers have been cleared.
    has_clear_edges: bool,
}

impl Screen {
    /// Creates the screen. Returns `None` if there is one already.
    pub fn new(mode: Mode) -> Option<Screen> {
        let cells = MutexGuard::leak(CELLS.try_lock()?);
        cells.set_size(mode.columns, mode.rows);
        Some(Screen { mode, cells, results: Results::new(mode.rows), memory: None, has_clear_edges: false })
    }

    /// Sets the address of the frame buffer; `None` if it is not mapped.
    ///
    /// # Safety
    /// The frame buffer of the mode is mapped at this address, writable, until this function is called again.
    pub unsafe fn set_address(&mut self, address: Option<*mut u32>) {
        self.memory = address.map(|start| Memory { start, len: self.mode.pixels() });
    }

    /// Adds a line to the text.
    pub fn add_line(&mut self, line: &[u8]) {
        self.cells.add(line, Colour::Text);
    }

    /// Adds a record to the text, in its human-readable form. Not inlined, so that a machine without a screen needs no
    /// stack space for the text.
    #[inline(never)]
    pub fn add_record(&mut self, record: &Record<'_>) {
        if let Some((text, colour)) = self.results.take(record) {
            self.cells.add(text.as_str().as_bytes(), colour);
        }
    }

    /// Draws the rows that have changed. Calls `pause` after each row.
    pub fn draw(&mut self, pause: &dyn Fn()) {
        let Some(memory) = &mut self.memory else { return };
        if !self.has_clear_edges {
            draw::edges(&self.mode, memory, pause);
            self.has_clear_edges = true;
        }
        draw::changes(self.cells, &self.mode, memory, pause);
        // A locked instruction or a fence empties the write-combining buffers (SDM 3A, 12.3.1).
        fence(Ordering::SeqCst);
    }

    /// Abandons a drawing in progress, because the CPU that was drawing never continues. The next [`draw`](Self::draw)
    /// draws the complete screen again.
    pub fn abandon_drawing(&mut self) {
        self.cells.forget_shown();
        self.has_clear_edges = false;
    }
}

/// A mapped frame buffer.
struct Memory {
    start: *mut u32,
    /// The length of the frame buffer in pixels.
    len: usize,
}

// SAFETY: the address is valid on every CPU, because all CPUs share the kernel's half. Only the holder of the console's
// lock uses it.
unsafe impl Send for Memory {}

impl draw::Pixels for Memory {
    fn fill(&mut self, first: usize, count: usize, pixel: u32) {
        let end = (first + count).min(self.len);
        for index in first..end {
            // SAFETY: the index is below the length, and the frame buffer is mapped (contract of `set_address`). No
            // reference to the frame buffer exists.
            unsafe { self.start.add(index).write_volatile(pixel) };
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel_abi::boot::FrameBuffer;

    use super::*;

    /// A CPU that stops while it draws leaves a part of a character, which no later line covers.
    #[test]
    fn everything_is_drawn_again_after_a_cpu_has_stopped_while_drawing() {
        let (width, height) = (404, 245);
        let masks = [0xff_0000, 0xff00, 0xff];
        let buffer = FrameBuffer {
            start: 0x8000_0000,
            len: width * height * 4,
            width: width as u32,
            height: height as u32,
            stride: width as u32,
            masks,
        };
        let mode = Mode::of(&buffer, u64::MAX, core::iter::empty()).expect("valid").expect("a screen");
        let mut pixels = std::vec![0x12_3456_u32; (width * height) as usize];
        let mut screen = Screen::new(mode).expect("no other test uses the screen");
        // SAFETY: the vector has the mode's number of pixels, and outlives the calls of `draw`.
        unsafe { screen.set_address(Some(pixels.as_mut_ptr())) };
        screen.add_line(b"a line");
        screen.draw(&|| ());
        let complete = pixels.clone();
        assert!(!complete.contains(&0x12_3456), "a pixel was not drawn");
        // The CPU stops here: a part of the text and of the edges is missing.
        for at in [0, 5 * width as usize + 3, pixels.len() - 1] {
            // SAFETY: the index is below the length, and nothing else accesses the vector now.
            unsafe { pixels.as_mut_ptr().add(at).write_volatile(0x12_3456) };
        }
        screen.draw(&|| ());
        assert_ne!(pixels, complete, "only what has changed is drawn");
        screen.abandon_drawing();
        screen.draw(&|| ());
        assert_eq!(pixels.iter().zip(&complete).filter(|(a, b)| a != b).count(), 0, "wrong pixels");
    }
}

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

//! The screen as a part of the console: its text, and the frame buffer that shows it.
//!
//! The text changes at once, when a line is written. [`Screen::draw`] follows, in the same hold of the console's lock.
//! The CPU that writes a program's line handles interrupts after each row of text that it draws. A CPU that writes a
//! kernel line draws with interrupts off, at most one screen. No other code draws: neither the tick nor any other
//! interrupt handler.

use core::sync::atomic::{Ordering, fence};

use kernel_abi::record::Record;
use spin::{Mutex, MutexGuard};

use crate::screen::{Cells, Colour, Mode, Results, draw};

/// The text of the screen. It is in the kernel's image, so that a failure before the frame allocator exists is shown.
static CELLS: Mutex<Cells> = Mutex::new(Cells::new());

/// A screen.
pub struct Screen {
    mode: Mode,
    cells: &'static mut Cells,
    results: Results,
    /// The frame buffer while it is mapped. Lines that come meanwhile are drawn later.
    memory: Option<Memory>,
    /// Whether what no character covers is cleared.
    has_clear_edges: bool,
}

impl Screen {
    /// Creates the screen. `None` if there is one already.
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

    /// Adds a record to the text, in the form for a reader. Not inlined, so that a machine without a screen needs no stack
    /// for the text.
    #[inline(never)]
    pub fn add_record(&mut self, record: &Record<'_>) {
        if let Some((text, colour)) = self.results.take(record) {
            self.cells.add(text.as_str().as_bytes(), colour);
        }
    }

    /// Draws what has changed. Calls `pause` after each row.
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

    /// Gives up what was being drawn, because the CPU that drew it never continues. Everything is drawn again.
    pub fn abandon_drawing(&mut self) {
        self.cells.forget_shown();
        self.has_clear_edges = false;
    }
}

/// A mapped frame buffer.
struct Memory {
    start: *mut u32,
    /// Its length in pixels.
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

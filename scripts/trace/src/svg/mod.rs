//! Draws a timeline as SVG: a lane for each CPU, with its system calls as bars and its instants as marks above the
//! bars. The file is self-contained and readable on light and dark backgrounds.

mod style;

use std::fmt::Write as _;
use std::io::Write;

use self::style::{class, label, shape_of, step, time};
use super::error::Error;
use super::file::Header;
use super::merge::Event;
use super::options::Window;
use super::palette;
use super::shape::Described;
use super::sink::Sink;
use super::timeline::{Lane, Mark, Slice, Timeline};

/// Number of slices and of marks kept for each CPU until the window to draw is known.
const LIMIT: usize = 20_000;
/// Maximum number of system calls per CPU in the default window.
const CALLS: usize = 24;

/// Dimensions in pixels.
const WIDTH: f64 = 1120.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const LANE: f64 = 52.0;
const MARKS: f64 = 14.0;
const BAR: f64 = 26.0;
/// Approximate width of a character in a label.
const CHARACTER: f64 = 6.6;

/// The style sheet, except for the colours of the system calls.
const STYLE: &str = include_str!("style.css");

/// Collects events, and draws them after the last event.
pub struct Svg<W> {
    to: W,
    name: String,
    timeline: Timeline,
    window: Option<Window>,
}

impl<W: Write> Svg<W> {
    /// Creates a writer to `to`. Error messages call the output `name`.
    pub fn new(to: W, name: String, header: &Header, window: Option<Window>) -> Svg<W> {
        let limit = if window.is_some() { usize::MAX } else { LIMIT };
        Svg { to, name, timeline: Timeline::new(header, limit), window }
    }
}

impl<W: Write> Sink for Svg<W> {
    fn event(&mut self, event: &Event) -> Result<(), Error> {
        self.timeline.event(event)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.timeline.finish()?;
        let window = self.window.unwrap_or_else(|| {
            let (from, to) = self.timeline.window(CALLS);
            // Add a margin, so that the ends of the outermost bars are visible.
            let margin = (to - from) / 50 + 1;
            Window { from: from.saturating_sub(margin), to: to.saturating_add(margin) }
        });
        let text = Picture { lanes: &self.timeline.lanes, window }.draw();
        let written = self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush());
        written.map_err(|error| Error::Io(format!("cannot write {}", self.name), error))
    }
}

struct Picture<'a> {
    lanes: &'a [Lane],
    window: Window,
}

impl Picture<'_> {
    fn draw(&self) -> String {
        let bottom = TOP + LANE * self.lanes.len() as f64;
        let height = bottom + 76.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-labelledby=\"title\">\n<style>{STYLE}{calls}</style>\n<title id=\"title\">{title}</title>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"head\" x=\"{RIGHT}\" y=\"24\">{title}</text>\n",
            title = self.title(),
            calls = palette::classes()
        );
        self.axis(&mut svg, bottom);
        for (n, lane) in self.lanes.iter().enumerate() {
            self.lane(&mut svg, lane, TOP + LANE * n as f64);
        }
        self.legend(&mut svg, bottom + 54.0);
        svg + "</svg>\n"
    }

    fn title(&self) -> String {
        let Window { from, to } = self.window;
        let calls = self.slices().filter(|slice| slice.is_call()).count();
        format!(
            "{} on {} in {}, {:.3} ms after kernel start",
            output::count(calls as u64, "system call"),
            output::count(self.lanes.len() as u64, "CPU"),
            time((to - from) as f64),
            from as f64 / 1e6
        )
    }

    /// Returns the slices of all CPUs that lie in the window.
    fn slices(&self) -> impl Iterator<Item = &Slice> {
        let Window { from, to } = self.window;
        let inside = move |slice: &&Slice| slice.end >= from && slice.begin <= to;
        self.lanes.iter().flat_map(|lane| &lane.slices).filter(inside)
    }

    fn x(&self, ns: u64) -> f64 {
        let Window { from, to } = self.window;
        let share = (ns.clamp(from, to) - from) as f64 / (to - from) as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn axis(&self, svg: &mut String, bottom: f64) {
        let Window { from, to } = self.window;
        let step = step((to - from) as f64);
        let mut at = 0.0;
        while at <= (to - from) as f64 {
            let (x, y) = (self.x(from.saturating_add(at as u64)), bottom + 18.0);
            // Writing to a `String` cannot fail, here and below.
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{y}\">+{}</text>",
                time(at)
            );
            at += step;
        }
    }

    fn lane(&self, svg: &mut String, lane: &Lane, top: f64) {
        let Window { from, to } = self.window;
        let middle = top + MARKS + BAR / 2.0;
        let (name, y) = (lane.cpu.cpu, middle + 4.0);
        let _ = writeln!(svg, "<text class=\"cpu\" x=\"{RIGHT}\" y=\"{y:.1}\">CPU {name}</text>");
        if let Some((first, last)) = lane.range.filter(|(first, last)| *last >= from && *first <= to) {
            let (x, end) = (self.x(first), self.x(last));
            let _ = writeln!(svg, "<path class=\"ring3\" d=\"M{x:.1} {middle}H{end:.1}\"/>");
        }
        lane.slices.iter().filter(|slice| slice.end >= from && slice.begin <= to).for_each(|slice| {
            self.bar(svg, slice, top + MARKS);
        });
        lane.marks.iter().filter(|mark| (from..=to).contains(&mark.ns)).for_each(|mark| {
            self.mark(svg, mark, top);
        });
    }

    fn bar(&self, svg: &mut String, slice: &Slice, top: f64) {
        let (x, end) = (self.x(slice.begin), self.x(slice.end));
        // Bars are at least one pixel wide, so that they are visible.
        let width = (end - x).max(1.0);
        let (class, label) = (class(slice.span), label(slice.span));
        let cut = if slice.complete { "" } else { ", cut" };
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\"><title>{label}, \
             {}{cut}</title></rect>",
            time((slice.end - slice.begin) as f64)
        );
        let short = label.trim_start_matches("SYS_").to_lowercase();
        if width > CHARACTER * short.len() as f64 + 4.0 {
            let (x, y) = (x + width / 2.0, top + BAR / 2.0 + 4.0);
            let _ = write!(svg, "<text class=\"label\" x=\"{x:.1}\" y=\"{y:.1}\">{short}</text>");
        }
        svg.push('\n');
    }

    fn mark(&self, svg: &mut String, mark: &Mark, top: f64) {
        let (x, y) = (self.x(mark.ns), top + 1.0);
        let what = Described(&mark.record);
        let shape = shape_of(mark.kind);
        let _ = writeln!(
            svg,
            "<path class=\"mark\" transform=\"translate({x:.1} {y:.1})\" d=\"{shape}\"><title>{what}</title></path>"
        );
    }

    fn legend(&self, svg: &mut String, y: f64) {
        let mut spans: Vec<_> = self.slices().map(|slice| (class(slice.span), label(slice.span))).collect();
        spans.sort_unstable();
        spans.dedup();
        let mut x = LEFT;
        for (class, label) in spans {
            let (top, text) = (y - 11.0, x + 18.0);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top}\" width=\"13\" height=\"13\"/><text class=\"key\" \
                 x=\"{text:.1}\" y=\"{y}\">{label}</text>"
            );
            x += 32.0 + CHARACTER * 1.25 * label.len() as f64;
        }
        let inside = |mark: &&Mark| (self.window.from..=self.window.to).contains(&mark.ns);
        let marks = self.lanes.iter().flat_map(|lane| &lane.marks).filter(inside);
        let mut kinds: Vec<_> = marks.map(|mark| mark.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let (top, text, shape, name) = (y - 10.0, x + 10.0, shape_of(kind), kind.name());
            let _ = writeln!(
                svg,
                "<path class=\"mark\" transform=\"translate({x:.1} {top})\" d=\"{shape}\"/><text class=\"key\" \
                 x=\"{text:.1}\" y=\"{y}\">{name}</text>"
            );
            x += 30.0 + CHARACTER * 1.15 * name.len() as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel_abi::trace::Kind;

    use super::super::timeline::tests::{calls, timeline};
    use super::*;

    fn picture(events: &[(u64, usize, Kind, u64)], window: Window) -> String {
        Picture { lanes: &timeline(2, 100, events).lanes, window }.draw()
    }

    #[test]
    fn bar_is_at_the_time_of_its_call() {
        let events = [calls(0, 1000, 3), calls(1, 1500, 2), vec![(1502, 1, Kind::Tick, 9)]].concat();
        let svg = picture(&events, Window { from: 1000, to: 2000 });
        // One nanosecond is 1.04 pixels wide.
        assert!(
            svg.contains("<rect class=\"call0\" x=\"64.0\" y=\"58.0\" width=\"6.2\" height=\"26\">"),
            "{svg}"
        );
        assert!(svg.contains("<rect class=\"call1\" x=\"74.4\" y=\"58.0\""), "{svg}");
        assert!(svg.contains("<rect class=\"call0\" x=\"584.0\" y=\"110.0\""), "on the second lane: {svg}");
        assert!(svg.contains("<title>tick ticks=9 rip=0x0</title>"), "{svg}");
        assert!(svg.contains("5 system calls on 2 CPUs in 1 µs, 0.001 ms after kernel start"), "{svg}");
    }

    #[test]
    fn slices_outside_the_window_are_not_drawn() {
        let svg = picture(&calls(0, 1000, 10), Window { from: 1020, to: 1037 });
        // Calls 2 and 3 appear as bars and in the legend. The background rectangle has another class.
        assert_eq!(svg.matches("<rect class=\"call").count(), 2 + 2, "{svg}");
    }
}

//! Curves as SVG: lines over a common axis, for light and dark backgrounds.

use std::fmt::Write;

/// A panel: one quantity over the epochs.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is drawn, such as `loss`.
    pub title: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// One line: points in order. Points that are not finite interrupt it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Horizontal and vertical coordinates.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 40.0;

/// Blue, orange, green: the first colours of Okabe and Ito's palette that colour-blind people tell apart.
const COLOURS: [&str; 3] = ["#0072b2", "#e69f00", "#009e73"];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:14px}\
.grid{stroke:#ddd;stroke-width:1}.axis{stroke:#888;stroke-width:1}.line{fill:none;stroke-width:2;stroke-linejoin:round}\
.paper{fill:#fff}@media(prefers-color-scheme:dark){.paper{fill:#1b1b1f}text{fill:#ddd}.grid{stroke:#3a3a40}.axis{stroke:#888}}";

/// Panels below each other, `x_title` under each. An image with axes but without lines if there are no points.
///
/// ```
/// use backprop::plot::{Line, Panel, svg};
///
/// let line = Line { name: "train".into(), points: vec![(1.0, 2.3), (2.0, 0.9)] };
/// let image = svg(&[Panel { title: "loss".into(), lines: vec![line] }], "epoch");
/// assert!(image.starts_with("<svg") && image.contains("polyline"));
/// ```
pub fn svg(panels: &[Panel], x_title: &str) -> String {
    let height = HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\
         <style>{STYLE}</style><rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        write_panel(&mut out, panel, x_title, HEIGHT * i as f64);
    }
    out.push_str("</svg>\n");
    out
}

fn write_panel(out: &mut String, panel: &Panel, x_title: &str, y0: f64) {
    let finite = || panel.lines.iter().flat_map(|l| &l.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let xs = Axis::over(finite().map(|p| p.0), LEFT, WIDTH - RIGHT, true);
    let ys = Axis::over(finite().map(|p| p.1), y0 + HEIGHT - BOTTOM, y0 + TOP, false);
    // Writing to a string cannot fail, so the results say nothing.
    let _ = writeln!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>", y0 + 24.0, escape(&panel.title));
    for (value, at) in ys.ticks() {
        let _ = writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>", WIDTH - RIGHT);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, at + 4.0, ys.label(value));
    }
    let floor = y0 + HEIGHT - BOTTOM;
    let _ = writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{floor}\" y2=\"{floor}\"/>", WIDTH - RIGHT);
    for (value, at) in xs.ticks() {
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", floor + 16.0, xs.label(value));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = writeln!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", floor + 32.0, escape(x_title));
    for (i, line) in panel.lines.iter().enumerate() {
        write_line(out, line, COLOURS[i % COLOURS.len()], &xs, &ys);
        let x = WIDTH - RIGHT - 110.0 * (panel.lines.len() - i) as f64;
        let _ = writeln!(
            out,
            "<line class=\"line\" stroke=\"{}\" x1=\"{x}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            COLOURS[i % COLOURS.len()],
            x + 18.0,
            y0 + 20.0,
            y0 + 20.0
        );
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\">{}</text>", x + 24.0, y0 + 24.0, escape(&line.name));
    }
}

fn write_line(out: &mut String, line: &Line, colour: &str, xs: &Axis, ys: &Axis) {
    for part in line.points.split(|(x, y)| !x.is_finite() || !y.is_finite()).filter(|part| !part.is_empty()) {
        if let [(x, y)] = part {
            let _ = writeln!(out, "<circle fill=\"{colour}\" r=\"3\" cx=\"{:.1}\" cy=\"{:.1}\"/>", xs.at(*x), ys.at(*y));
            continue;
        }
        let points: Vec<String> = part.iter().map(|(x, y)| format!("{:.1},{:.1}", xs.at(*x), ys.at(*y))).collect();
        let _ = writeln!(out, "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
    }
}

/// A linear axis from `low` to `high`, drawn from `from` to `to`, with round ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Covers the values; ticks are whole numbers if `whole`.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64, whole: bool) -> Axis {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.5 };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / if whole { 8.0 } else { 4.0 });
        // Of the round steps from 1 on, only 2.5 is no whole number.
        let step = if !whole {
            step
        } else if step.fract() == 0.0 {
            step.max(1.0)
        } else {
            (2.0 * step).max(1.0).ceil()
        };
        // The ends of a whole axis are its first and last value; others are rounded out to ticks.
        let (low, high) = if whole { (low, high) } else { ((low / step).floor() * step, (high / step).ceil() * step) };
        Axis { low, high, step, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<(f64, f64)> {
        let (first, last) = ((self.low / self.step - 1e-9).ceil() as i64, (self.high / self.step + 1e-9).floor() as i64);
        (first..=last).map(|i| i as f64 * self.step).map(|v| (v, self.at(v))).collect()
    }

    /// A tick's number with as many digits as the step needs.
    fn label(&self, value: f64) -> String {
        let digits = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        // Half steps such as 2.5 need one digit more than their magnitude.
        let extra = usize::from((self.step * 10f64.powi(digits as i32)).fract() > 1e-9);
        format!("{value:.*}", digits + extra)
    }
}

/// The round number (1, 2, 2.5 or 5 times a power of ten) at or above `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|f| f * power >= rough * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_not_below() {
        for (rough, step) in [(0.3, 0.5), (0.21, 0.25), (1.0, 1.0), (0.011, 0.02), (7.0, 10.0), (600.0, 1000.0)] {
            assert!((round_step(rough) / step - 1.0).abs() < 1e-12, "{rough} gave {}", round_step(rough));
        }
    }

    #[test]
    fn ticks_cover_the_values_and_read_well() {
        let axis = Axis::over([0.12, 0.91].into_iter(), 0.0, 100.0, false);
        let labels: Vec<String> = axis.ticks().into_iter().map(|(v, _)| axis.label(v)).collect();
        assert_eq!(labels, ["0.00", "0.20", "0.40", "0.60", "0.80", "1.00"].map(|l| l[..3].to_owned()));
        assert!(axis.low <= 0.12 && axis.high >= 0.91);
        let epochs = Axis::over([1.0, 3.0].into_iter(), 0.0, 100.0, true);
        assert_eq!(epochs.ticks().into_iter().map(|(v, _)| epochs.label(v)).collect::<Vec<_>>(), ["1", "2", "3"]);
        let epochs = Axis::over([1.0, 20.0].into_iter(), 0.0, 100.0, true);
        assert_eq!(epochs.ticks().into_iter().map(|(v, _)| epochs.label(v)).collect::<Vec<_>>(), ["5", "10", "15", "20"]);
    }

    #[test]
    fn gaps_interrupt_and_names_are_escaped() {
        let points = vec![(1.0, 1.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, 1.0)];
        let image = svg(&[Panel { title: "a<b".into(), lines: vec![Line { name: "x".into(), points }] }], "epoch");
        assert_eq!(image.matches("<polyline").count(), 2);
        assert!(image.contains("a&lt;b") && !image.contains("NaN"));
    }

    #[test]
    fn nothing_to_draw_is_still_an_image() {
        let image = svg(&[Panel { title: "loss".into(), lines: Vec::new() }], "epoch");
        assert!(image.ends_with("</svg>\n") && !image.contains("NaN"));
    }
}

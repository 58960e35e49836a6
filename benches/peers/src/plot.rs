//! `docs/speed.svg`: the speed of each tool by the length of the rows.

use contest::{Kind, Results};

const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 580.0;
/// Where the panels begin and end.
const TOP: f64 = 96.0;
const BOTTOM: f64 = 500.0;

struct Panel {
    left: f64,
    width: f64,
    title: &'static str,
    kind: Kind,
}

const PANELS: [Panel; 2] = [
    Panel { left: 62.0, width: 440.0, title: "Probabilities", kind: Kind::Probs },
    Panel { left: 700.0, width: 250.0, title: "Logits", kind: Kind::Logits },
];

/// Each tool's colour, as the colour-blind can tell them apart (Okabe and Ito), and its dashes.
const STYLES: [(&str, &str, &str); 13] = [
    ("read", "#222222", "1.5 3"),
    ("cpu", "#0072b2", ""),
    ("gpu", "#009e73", "7 4"),
    ("torch-compile", "#d55e00", ""),
    ("torch", "#d55e00", "5 3"),
    ("jax", "#cc79a7", ""),
    ("numpy", "#56b4e9", ""),
    ("scipy", "#b8860b", ""),
    ("burn-flex", "#777777", ""),
    ("burn-ndarray", "#777777", "5 3"),
    ("burn-wgpu", "#777777", "2 4"),
    ("ndarray-stats", "#7b5ea7", "5 3"),
    ("numkong", "#7b5ea7", ""),
];

/// The speed at the bottom and at the top, powers of ten.
struct Speeds {
    low: i32,
    high: i32,
}

impl Speeds {
    fn of(results: &Results) -> Speeds {
        let speeds = || results.lines.iter().filter(|line| !line.case.is_one_row());
        let speeds = || speeds().map(|line| line.gb_per_s.log10()).filter(|log| log.is_finite());
        let low = speeds().fold(0.0, f64::min).floor().max(-3.0);
        Speeds { low: low as i32, high: speeds().fold(1.0, f64::max).ceil() as i32 }
    }

    fn y(&self, gb_per_s: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        BOTTOM - (BOTTOM - TOP) * (gb_per_s.log10().clamp(low, high) - low) / (high - low)
    }
}

pub fn svg(results: &Results) -> String {
    let speeds = Speeds::of(results);
    let panels: String =
        PANELS.iter().map(|panel| axes(panel, &speeds) + &lines(panel, &speeds, results)).collect();
    let machine = &results.machine;
    let (cpu, threads, date) = (&machine.cpu, machine.threads, &machine.date);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">
<rect width="100%" height="100%" fill="white"/>
<text x="24" y="34" font-size="20" font-weight="bold">How fast D(P‖Q) is read from the memory</text>
<text x="24" y="56" fill="#555">GB of f32 input per second by the length of the rows, on {cpu}, {threads} threads; GPU backends on a software adapter; {date}</text>
{panels}</svg>
"##
    )
}

impl Panel {
    /// The binary logarithms of the row lengths at both ends.
    fn ends(&self) -> (f64, f64) {
        match self.kind {
            Kind::Probs => (1.0, 20.0),
            Kind::Logits => (10.0, 17.0),
        }
    }

    fn x(&self, bins: f64) -> f64 {
        let (low, high) = self.ends();
        self.left + self.width * (bins.log2() - low) / (high - low)
    }

    fn ticks(&self) -> &[(f64, &str)] {
        match self.kind {
            Kind::Probs => &[
                (2.0, "2"),
                (16.0, "16"),
                (128.0, "128"),
                (1024.0, "1,024"),
                (8192.0, "8,192"),
                (65_536.0, "65,536"),
                (1_048_576.0, "1,048,576"),
            ],
            Kind::Logits => &[(1024.0, "1,024"), (8192.0, "8,192"), (65_536.0, "65,536")],
        }
    }
}

fn axes(panel: &Panel, speeds: &Speeds) -> String {
    let (left, right, title) = (panel.left, panel.left + panel.width, panel.title);
    let middle = left + panel.width / 2.0;
    let mut svg = format!(
        "<text x=\"{left}\" y=\"84\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    );
    for power in speeds.low..=speeds.high {
        for digit in [1.0, 2.0, 5.0] {
            let speed = digit * 10_f64.powi(power);
            if power == speeds.high && digit > 1.0 {
                continue;
            }
            let (x, y) = (left - 8.0, speeds.y(speed));
            let (below, grey) = (y + 4.0, if digit == 1.0 { "#ccc" } else { "#eee" });
            svg += &format!(
                r##"<path d="M{left} {y:.1}H{right}" stroke="{grey}"/><text x="{x}" y="{below:.1}" text-anchor="end">{speed}</text>
"##
            );
        }
    }
    for (bins, label) in panel.ticks() {
        let (x, y) = (panel.x(*bins), BOTTOM + 21.0);
        svg += &format!(
            r##"<path d="M{x:.1} {BOTTOM}v5" stroke="#888"/><text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>
"##
        );
    }
    svg + &format!(
        r##"<path d="M{left} {BOTTOM}H{right}" stroke="#888"/>
<text x="{middle}" y="546" text-anchor="middle" fill="#555">bins of a row</text>
"##
    )
}

/// The lines of all tools, and their names beside the ends, moved apart where those are close.
fn lines(panel: &Panel, speeds: &Speeds, results: &Results) -> String {
    let mut svg = String::new();
    let mut labels = Vec::new();
    for (tool, colour, dashes) in STYLES {
        let own = results.lines.iter().filter(|line| {
            line.tool == tool
                && line.case.kind == panel.kind
                && !line.case.is_one_row()
                && line.is_timed()
        });
        let point = |bins: usize, speed| (panel.x(bins as f64), speeds.y(speed));
        let points: Vec<_> = own.clone().map(|line| point(line.case.bins, line.gb_per_s)).collect();
        let (Some(&(_, end)), Some(line)) = (points.last(), own.clone().next()) else { continue };
        let (weight, width) =
            if line.title.starts_with("kullback") { ("bold", 3.5) } else { ("normal", 1.8) };
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        svg += &format!(
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}" stroke-linejoin="round"/>
"##,
            path.join(" ")
        );
        labels.push((
            end,
            format!(r##"fill="{colour}" font-weight="{weight}">{}</text>"##, line.title),
        ));
    }
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let ends: Vec<f64> = labels.iter().map(|label| label.0).collect();
    let x = panel.left + panel.width + 8.0;
    for (y, (_, label)) in apart(&ends).into_iter().zip(labels) {
        svg += &format!("<text x=\"{x}\" y=\"{y:.1}\" {label}\n");
    }
    svg
}

/// Heights for texts at these ends, given from above: one line apart, and none below the panel.
fn apart(ends: &[f64]) -> Vec<f64> {
    const LINE: f64 = 16.0;
    let mut heights: Vec<f64> = ends.iter().map(|end| end + 4.0).collect();
    for at in 1..heights.len() {
        heights[at] = heights[at].max(heights[at - 1] + LINE);
    }
    let mut lowest = BOTTOM + 4.0;
    for height in heights.iter_mut().rev() {
        *height = height.min(lowest);
        lowest = *height - LINE;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_apart_and_within_the_panel() {
        assert_eq!(apart(&[100.0, 200.0]), [104.0, 204.0]);
        assert_eq!(apart(&[100.0, 101.0, 102.0]), [104.0, 120.0, 136.0]);
        assert_eq!(apart(&[BOTTOM - 1.0, BOTTOM]), [BOTTOM - 12.0, BOTTOM + 4.0]);
    }
}

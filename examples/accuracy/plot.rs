//! `docs/accuracy.svg`: the worst error of each tool by divergence.

use kullback::Kind;

use crate::report::errors;
use crate::rows::{BINS, DECADES, ROWS};
use crate::{KINDS, Table, Tool, cell_id};

const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 560.0;
/// Where the panels begin and end.
const TOP: f64 = 96.0;
const BOTTOM: f64 = 490.0;
const PANEL_WIDTH: f64 = 380.0;
const PANELS: [(f64, &str, [Kind; 2]); 2] =
    [(84.0, "f32 probabilities", KINDS[0]), (616.0, "f32 logits", KINDS[2])];

/// The powers of ten at the ends of the vertical axis; what lies beyond is drawn on its ends.
const LOWEST: i32 = -9;
const HIGHEST: i32 = 6;

/// Each tool's colour, as the colour-blind can tell them apart (Okabe and Ito), and its dashes.
const STYLES: [(&str, &str, &str); 6] = [
    ("CPU", "#0072b2", ""),
    ("GPU", "#009e73", "7 4"),
    ("PyTorch", "#d55e00", ""),
    ("JAX", "#cc79a7", ""),
    ("SciPy", "#b8860b", ""),
    ("burn", "#555555", "2 4"),
];

pub fn svg(tables: &[Table], tools: &[Tool]) -> String {
    let panel = |(left, title, kinds)| {
        let table = tables.iter().find(|table| table.kinds == kinds && table.element == "f32");
        table.map(|table| axes(left, title) + &promise(left, table) + &lines(left, table, tools))
    };
    let panels: String = PANELS.into_iter().filter_map(panel).collect();
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">
<rect width="100%" height="100%" fill="white"/>
<text x="24" y="34" font-size="20" font-weight="bold">Where P is close to Q, the textbook sum returns noise</text>
<text x="24" y="56" fill="#555">Worst relative error of D(P‖Q) over {ROWS} rows of {BINS} bins, by the size of D, against multi-precision values</text>
{panels}</svg>
"##
    )
}

fn x(left: f64, decade: i32) -> f64 {
    let (near, far) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    left + PANEL_WIDTH * (far - f64::from(decade)) / (far - near)
}

fn y(error: f64) -> f64 {
    let (lowest, highest) = (f64::from(LOWEST), f64::from(HIGHEST));
    let height = (error.log10().clamp(lowest, highest) - lowest) / (highest - lowest);
    BOTTOM - (BOTTOM - TOP) * height
}

fn axes(left: f64, title: &str) -> String {
    let (right, middle) = (left + PANEL_WIDTH, left + PANEL_WIDTH / 2.0);
    let (inside, wrong) = (left + 10.0, y(1.0) - TOP);
    let errors = (LOWEST..=HIGHEST).step_by(3).map(|power| {
        let (x, y, label) = (left - 8.0, y(10_f64.powi(power)), ten_to(power));
        let below = y + 4.0;
        format!(
            r##"<path d="M{left} {y:.1}H{right}" stroke="#ddd"/><text x="{x}" y="{below:.1}" text-anchor="end">{label}</text>
"##
        )
    });
    let decades = DECADES.filter(|decade| decade % 3 == 0).map(|decade| {
        let (x, y, label) = (x(left, decade), BOTTOM + 21.0, ten_to(decade));
        format!(
            r##"<path d="M{x:.1} {BOTTOM}v5" stroke="#888"/><text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>
"##
        )
    });
    format!(
        r##"<rect x="{left}" y="{TOP}" width="{PANEL_WIDTH}" height="{wrong}" fill="#fbe9e7"/>
<text x="{left}" y="84" font-size="15" font-weight="bold">{title}</text>
<text x="{inside}" y="116" fill="#b23b2a">off by more than 100 %, the sign often wrong</text>
{}{}<path d="M{left} {BOTTOM}H{right}" stroke="#888"/>
<text x="{middle}" y="536" text-anchor="middle" fill="#555">D(P‖Q) in nats: far apart on the left, nearly equal on the right</text>
"##,
        errors.collect::<String>(),
        decades.collect::<String>(),
    )
}

/// The bound that this library promises, as far as it reaches.
fn promise(left: f64, table: &Table) -> String {
    let promised = |decade| Some((decade, table.promise(10_f64.powi(decade))?));
    let Some((nearest, bound)) = DECADES.into_iter().find_map(promised) else {
        return String::new();
    };
    let (right, y, above) = (x(left, nearest), y(bound), y(bound) - 8.0);
    let power = bound.log10().floor();
    let (digit, power) = (bound / 10_f64.powf(power), ten_to(power as i32));
    format!(
        r##"<path d="M{left} {y:.1}H{right:.1}" stroke="#222" stroke-width="1.2" stroke-dasharray="1.5 3"/>
<text x="{right:.1}" y="{above:.1}" text-anchor="end">kullback promises {digit:.0}·{power}</text>
"##
    )
}

/// The lines of all tools, and their names beside the ends, moved apart where those are close.
fn lines(left: f64, table: &Table, tools: &[Tool]) -> String {
    let mut svg = String::new();
    let mut ends = Vec::new();
    for (name, colour, dashes) in STYLES {
        let points =
            tools.iter().find(|tool| tool.name == name).map(|tool| points(left, table, tool));
        let Some(&(_, end)) = points.as_ref().and_then(|points| points.last()) else { continue };
        let points: Vec<String> =
            points.iter().flatten().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (name, weight, width) = match name {
            "CPU" | "GPU" => (format!("kullback {name}"), "bold", 3.5),
            other => (other.to_owned(), "normal", 2.0),
        };
        svg += &format!(
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}" stroke-linejoin="round"/>
"##,
            points.join(" ")
        );
        ends.push((end, format!(r##"fill="{colour}" font-weight="{weight}">{name}</text>"##)));
    }
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (x, mut next) = (left + PANEL_WIDTH + 8.0, TOP);
    for (end, label) in ends {
        let y = next.max(end + 4.0);
        svg += &format!("<text x=\"{x}\" y=\"{y:.1}\" {label}\n");
        next = y + 16.0;
    }
    svg
}

/// The worst error of each decade that the tool has values for, from far to near.
fn points(left: f64, table: &Table, tool: &Tool) -> Vec<(f64, f64)> {
    let point = |decade| {
        let exact = table.cells.get(&decade)?;
        let values = tool.values.as_ref()?.get(&cell_id(&table.id(), decade))?;
        Some((x(left, decade), y(*errors(values, exact).last()?)))
    };
    DECADES.rev().filter_map(point).collect()
}

fn ten_to(power: i32) -> String {
    let digits = power.to_string().replace('-', "−");
    format!(r##"10<tspan dy="-5" font-size="10">{digits}</tspan>"##)
}

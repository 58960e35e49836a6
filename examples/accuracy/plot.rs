//! `docs/accuracy.svg`: the worst error of each tool by divergence.

use std::fmt::Write;

use crate::report::errors;
use crate::rows::DECADES;
use crate::{KINDS, Table, Tool, cell_id};

const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 560.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 490.0;
const PANEL_WIDTH: f64 = 380.0;
const PANELS: [(f64, &str, [kullback::Kind; 2]); 2] =
    [(84.0, "f32 probabilities", KINDS[0]), (616.0, "f32 logits", KINDS[2])];

/// The powers of ten at the ends of the vertical axis; what lies beyond is drawn on its ends.
const LOWEST: f64 = -9.0;
const HIGHEST: f64 = 6.0;

/// Each tool's colour, told apart also by the colour-blind (Okabe and Ito), and its dashes.
const STYLES: [(&str, &str, &str); 6] = [
    ("CPU", "#0072b2", ""),
    ("GPU", "#009e73", "7 4"),
    ("PyTorch", "#d55e00", ""),
    ("JAX", "#cc79a7", ""),
    ("SciPy", "#b8860b", ""),
    ("burn", "#555555", "2 4"),
];

pub fn svg(tables: &[Table], tools: &[Tool]) -> String {
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">
<rect width="100%" height="100%" fill="white"/>
<text x="24" y="34" font-size="20" font-weight="bold">The closer P is to Q, the less the textbook sum knows</text>
<text x="24" y="56" fill="#555">Worst relative error of D(P‖Q) over 40 rows of 1,000 bins, by the size of D, against multi-precision values</text>
"##
    );
    for (left, title, kinds) in PANELS {
        let table = tables.iter().find(|table| table.kinds == kinds && table.element == "f32");
        if let Some(table) = table {
            panel(&mut svg, left, title, table, tools);
        }
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, left: f64, title: &str, table: &Table, tools: &[Tool]) {
    axes(svg, left, title);
    promise(svg, left, table);
    let mut ends = Vec::new();
    for (name, colour, dashes) in STYLES {
        let tool = tools.iter().find(|tool| tool.name == name);
        let Some(line) = tool.map(|tool| line(tool, table, left)).filter(|line| !line.is_empty())
        else {
            continue;
        };
        let points: Vec<String> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let width = if ["CPU", "GPU"].contains(&name) { 3.5 } else { 2.0 };
        put(
            svg,
            &format!(
                r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}" stroke-linejoin="round"/>"##,
                points.join(" ")
            ),
        );
        ends.push((line[line.len() - 1].1, name, colour));
    }
    labels(svg, left + PANEL_WIDTH + 8.0, ends);
}

/// The worst error of each decade that the tool has values for, from far to near.
fn line(tool: &Tool, table: &Table, left: f64) -> Vec<(f64, f64)> {
    let point = |decade| {
        let exact = table.cells.get(&decade)?;
        let values = tool.values.as_ref()?.get(&cell_id(&table.id(), decade))?;
        let worst = *errors(values, exact).last()?;
        Some((x(left, decade), y(worst)))
    };
    DECADES.rev().filter_map(point).collect()
}

fn x(left: f64, decade: i32) -> f64 {
    let (near, far) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    left + PANEL_WIDTH * (far - f64::from(decade)) / (far - near)
}

fn y(error: f64) -> f64 {
    let height = (error.log10().clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST);
    BOTTOM - (BOTTOM - TOP) * height
}

fn axes(svg: &mut String, left: f64, title: &str) {
    let (right, bare) = (left + PANEL_WIDTH, y(1.0) - TOP);
    put(
        svg,
        &format!(
            r##"<rect x="{left}" y="{TOP}" width="{PANEL_WIDTH}" height="{bare}" fill="#fbe9e7"/>
<text x="{left}" y="{}" font-size="15" font-weight="bold">{title}</text>
<text x="{}" y="{}" fill="#b23b2a">off by more than 100 %</text>"##,
            TOP - 12.0,
            left + 10.0,
            TOP + 20.0,
        ),
    );
    for power in (LOWEST as i32..=HIGHEST as i32).step_by(3) {
        let y = y(10_f64.powi(power));
        put(
            svg,
            &format!(
                r##"<path d="M{left} {y}H{right}" stroke="#ddd"/><text x="{}" y="{}" text-anchor="end">{}</text>"##,
                left - 8.0,
                y + 4.0,
                ten_to(power),
            ),
        );
    }
    for decade in DECADES.filter(|decade| decade % 3 == 0) {
        let x = x(left, decade);
        put(
            svg,
            &format!(
                r##"<path d="M{x} {BOTTOM}v5" stroke="#888"/><text x="{x}" y="{}" text-anchor="middle">{}</text>"##,
                BOTTOM + 21.0,
                ten_to(decade),
            ),
        );
    }
    put(
        svg,
        &format!(
            r##"<path d="M{left} {BOTTOM}H{right}" stroke="#888"/><text x="{}" y="{}" text-anchor="middle" fill="#555">D(P‖Q) in nats: far apart on the left, nearly equal on the right</text>"##,
            left + PANEL_WIDTH / 2.0,
            BOTTOM + 46.0,
        ),
    );
}

/// The bound that this library promises, as far as it reaches.
fn promise(svg: &mut String, left: f64, table: &Table) {
    let promised = |decade: &i32| table.promise(10_f64.powi(*decade)).is_some();
    let Some(nearest) = DECADES.into_iter().find(promised) else { return };
    let bound = table.promise(10_f64.powi(nearest)).unwrap_or_default();
    let y = y(bound);
    put(
        svg,
        &format!(
            r##"<path d="M{left} {y:.1}H{:.1}" stroke="#222" stroke-width="1.2" stroke-dasharray="1.5 3"/><text x="{}" y="{:.1}" font-size="12">promised: {:.0}·{}</text>"##,
            x(left, nearest),
            left + 6.0,
            y - 6.0,
            bound / 10_f64.powf(bound.log10().floor()),
            ten_to(bound.log10().floor() as i32),
        ),
    );
}

/// Names beside the ends of the lines, moved apart where those are close.
fn labels(svg: &mut String, left: f64, mut ends: Vec<(f64, &str, &str)>) {
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut lowest = TOP;
    for (y, name, colour) in ends {
        let y = f64::max(y + 4.0, lowest);
        lowest = y + 16.0;
        let (name, weight) = match name {
            "CPU" | "GPU" => (format!("kullback {name}"), "bold"),
            other => (other.to_owned(), "normal"),
        };
        put(
            svg,
            &format!(
                r##"<text x="{left}" y="{y:.1}" fill="{colour}" font-weight="{weight}">{name}</text>"##
            ),
        );
    }
}

fn ten_to(power: i32) -> String {
    let digits = power.to_string().replace('-', "−");
    format!(r##"10<tspan dy="-5" font-size="10">{digits}</tspan>"##)
}

fn put(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes all");
}

//! Draws the results of `loadtest/bench/table.py` as one SVG: every bounded figure as a share of its bound, and the latencies of
//! open loops beside the floor's.

use std::fmt::{self, Write as _};

use serde::Deserialize;

/// What `table.py` has measured.
#[derive(Debug, Deserialize)]
pub struct Results {
    /// How often each case was loaded.
    rounds: u32,
    /// Share of the machine that other programs used meanwhile.
    other_programs: f64,
    rows: Vec<Row>,
}

/// One line of the table.
#[derive(Debug, Deserialize)]
struct Row {
    case: String,
    ours: f64,
    floor: Option<f64>,
    ratio: Option<f64>,
    unit: String,
    bound: Option<f64>,
}

const WIDTH: f64 = 1100.0;
/// Where bars begin, to the right of the cases' names.
const LEFT: f64 = 390.0;
/// How wide a bar is that just reaches its bound, or latency axis is.
const FULL: f64 = 360.0;
/// Bars end here at the latest; one that is longer says so in its figure.
const MOST: f64 = 1.45;
const LINE: f64 = 24.0;
const OK: &str = "#3b7d5b";
const SHORT: &str = "#c2572b";
const FLOOR: &str = "#8a94a3";

/// An SVG document.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = String::new();
        let mut y = self.bounds(&mut body, 84.0)?;
        y = self.latencies(&mut body, y + 2.0 * LINE)?;
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">
<rect width="100%" height="100%" fill="#fff"/>
<text x="20" y="32" font-size="18" font-weight="bold">ratelimit: what was measured, as a share of what it must reach</text>
<text x="20" y="54" fill="#666">medians of {rounds} rounds in turn; other programs used {noise:.0} % of the machine meanwhile</text>
{body}</svg>"##,
            height = y + 20.0,
            rounds = self.rounds,
            noise = self.other_programs * 100.0,
        )
    }
}

impl Results {
    /// A bar for each figure that has a bound. Returns where the next panel begins.
    fn bounds(&self, svg: &mut String, top: f64) -> Result<f64, fmt::Error> {
        let bounded = self.rows.iter().filter_map(|row| Some((row, row.bound?)));
        let mut y = top;
        for (row, bound) in bounded {
            let value = row.ratio.unwrap_or(row.ours);
            let share = value / bound;
            let (width, colour) = (FULL * share.clamp(0.002, MOST), if share <= 1.0 { OK } else { SHORT });
            let unit = if row.ratio.is_some() { "times" } else { &row.unit };
            label(svg, &row.case, y)?;
            writeln!(svg, r#"<rect x="{LEFT}" y="{y}" width="{width:.1}" height="16" fill="{colour}"/>"#)?;
            let after = LEFT + width.max(FULL) + 8.0;
            writeln!(svg, r#"<text x="{after:.1}" y="{}">{} of {bound} {unit}</text>"#, y + 13.0, figure(value))?;
            y += LINE;
        }
        let (x, end) = (LEFT + FULL, y);
        writeln!(svg, r##"<path d="M{x} {top}V{end}" stroke="#222" stroke-dasharray="4 3"/>"##, top = top - 6.0)?;
        writeln!(svg, r#"<text x="{x}" y="{}" text-anchor="middle">must reach</text>"#, y + 14.0)?;
        Ok(y + LINE)
    }

    /// Two marks on a logarithmic axis for each latency. Returns where they end.
    fn latencies(&self, svg: &mut String, top: f64) -> Result<f64, fmt::Error> {
        let measured: Vec<_> =
            self.rows.iter().filter(|row| row.unit == "ms").filter_map(|row| Some((row, row.floor?))).collect();
        if measured.is_empty() {
            return Ok(top);
        }
        let values = measured.iter().flat_map(|(row, floor)| [row.ours, *floor]);
        let (fastest, slowest) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (first, last) = (fastest.max(0.001).log10().floor(), slowest.max(0.01).log10().ceil());
        let x = |ms: f64| LEFT + (FULL * MOST) * (ms.max(0.001).log10() - first) / (last - first).max(1.0);
        writeln!(svg, r#"<text x="20" y="{top}" font-size="16" font-weight="bold">Latency in milliseconds</text>"#)?;
        for (name, colour, at) in [("ratelimit", OK, LEFT), ("no-op tonic", FLOOR, LEFT + 110.0)] {
            writeln!(svg, r#"<circle cx="{at}" cy="{}" r="6" fill="{colour}"/>"#, top - 5.0)?;
            writeln!(svg, r#"<text x="{}" y="{top}">{name}</text>"#, at + 12.0)?;
        }
        let (mut y, begin) = (top + LINE, top + LINE - 6.0);
        for (row, floor) in &measured {
            label(svg, &row.case, y)?;
            let (ours, floor, middle) = (x(row.ours), x(*floor), y + 8.0);
            writeln!(svg, r##"<path d="M{ours:.1} {middle}H{floor:.1}" stroke="#ccc" stroke-width="2"/>"##)?;
            writeln!(svg, r#"<circle cx="{floor:.1}" cy="{middle}" r="6" fill="{FLOOR}"/>"#)?;
            writeln!(svg, r#"<circle cx="{ours:.1}" cy="{middle}" r="6" fill="{OK}"/>"#)?;
            y += LINE;
        }
        let mut power = first;
        while power <= last {
            let (ms, at) = (10_f64.powf(power), x(10_f64.powf(power)));
            writeln!(svg, r##"<path d="M{at:.1} {begin}V{y}" stroke="#ddd"/>"##)?;
            writeln!(svg, r#"<text x="{at:.1}" y="{}" text-anchor="middle">{ms}</text>"#, y + 14.0)?;
            power += 1.0;
        }
        Ok(y + LINE)
    }
}

/// The name of a row, ending where its bar begins.
fn label(svg: &mut String, text: &str, y: f64) -> fmt::Result {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, r#"<text x="{}" y="{}" text-anchor="end">{text}</text>"#, LEFT - 10.0, y + 13.0)
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 0.1 || value == 0.0 => 2,
        _ => return format!("{value:.5}").trim_end_matches('0').to_owned(),
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn results(rows: &serde_json::Value) -> Results {
        serde_json::from_value(serde_json::json!({ "rounds": 5, "other_programs": 0.25, "rows": rows })).unwrap()
    }

    #[test]
    fn a_figure_that_misses_its_bound_stands_out() {
        let svg = results(&serde_json::json!([
            { "case": "a < b", "ours": 1.0, "floor": 2.0, "ratio": 0.5, "unit": "CPU", "bound": 1.0 },
            { "case": "start", "ours": 90.0, "floor": null, "ratio": null, "unit": "ms", "bound": 60.0 },
            { "case": "no bound", "ours": 1.0, "floor": 2.0, "ratio": 0.5, "unit": "CPU", "bound": null },
        ]))
        .to_string();
        assert!(
            svg.contains("a &lt; b</text>") && svg.contains("0.50 of 1 times") && svg.contains("90.0 of 60 ms"),
            "{svg}"
        );
        assert!(svg.contains(&format!(r#"width="180.0" height="16" fill="{OK}""#)), "{svg}");
        assert!(svg.contains(&format!(r#"width="522.0" height="16" fill="{SHORT}""#)), "{svg}");
        assert!(!svg.contains("no bound") && !svg.contains("Latency"), "{svg}");
    }

    #[test]
    fn latencies_stand_on_a_logarithmic_axis() {
        let svg = results(&serde_json::json!([
            { "case": "p50", "ours": 0.1, "floor": 1.0, "ratio": 0.1, "unit": "ms", "bound": null },
            { "case": "p99", "ours": 10.0, "floor": 1.0, "ratio": 10.0, "unit": "ms", "bound": null },
        ]))
        .to_string();
        let marks = |x: f64| svg.matches(&format!(r#"<circle cx="{x:.1}""#)).count();
        assert_eq!([marks(LEFT), marks(LEFT + 261.0), marks(LEFT + 522.0)], [1, 2, 1], "{svg}");
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert!(results(&serde_json::json!([])).to_string().trim_end().ends_with("</svg>"));
    }
}

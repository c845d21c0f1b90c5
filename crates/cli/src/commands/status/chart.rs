//! A trend as SVG: points over time, a line through them, a limit.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::screen::span;
use crate::render::{escape, short_size};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 24.0;
/// Lines across.
const TICKS: f64 = 4.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// When.
    pub(super) at: DateTime<Utc>,
    /// How much.
    pub(super) value: f64,
    /// Of what, shown when it is pointed at.
    pub(super) label: String,
    /// How it is drawn: a class of the style sheet.
    pub(super) mark: &'static str,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::Bytes => short_size(value as u64),
            Self::Seconds => span(value),
        }
    }

    /// The same on a line across, where each is a round number.
    fn tick(self, value: f64) -> String {
        match self {
            Self::Seconds if (60.0..7_200.0).contains(&value) => format!("{} min", value / 60.0),
            Self::Seconds if value == 0.0 => "0".to_owned(),
            unit => unit.text(value),
        }
    }

    /// The distance of the lines across for values up to `most`: a round number of the unit people would take.
    fn step(self, most: f64) -> f64 {
        const PEOPLE: [f64; 15] =
            [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0];
        const HOURS: [f64; 5] = [1.0, 2.0, 3.0, 6.0, 12.0];
        const ROUND: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
        let least = most / TICKS;
        let steps: Vec<f64> = match self {
            Self::Bytes => (0..6).flat_map(|power| ROUND.map(|round| round * 1024_f64.powi(power))).collect(),
            Self::Seconds => PEOPLE
                .into_iter()
                .chain(HOURS.map(|hours| hours * 3_600.0))
                .chain(ROUND.map(|days| days * 86_400.0))
                .collect(),
        };
        steps.into_iter().find(|step| *step >= least).unwrap_or(least)
    }
}

/// The chart. Points in any order; `limit` is drawn where it does not dwarf them.
pub(super) fn chart(title: &str, unit: Unit, points: &[Point], limit: Option<f64>) -> String {
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    );
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by_key(|point| point.at);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        let _ = writeln!(
            svg,
            "<text class=\"empty\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">nothing measured yet</text>\n</svg>",
            WIDTH / 2.0,
            HEIGHT / 2.0
        );
        return svg;
    };
    let highest = points.iter().map(|point| point.value).fold(0.0, f64::max);
    let limit = limit.filter(|limit| *limit <= highest * 2.5);
    let most = highest.max(limit.unwrap_or(0.0)).max(if unit == Unit::Bytes { 1.0 } else { 0.1 });
    let step = unit.step(most);
    let top = (most / step).ceil() * step;
    let seconds = (last.at - first.at).num_seconds().max(1) as f64;
    let alone = last.at == first.at;
    let x = |at: DateTime<Utc>| {
        let share = if alone { 0.5 } else { (at - first.at).num_seconds() as f64 / seconds };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);

    for number in 0..=(top / step).round() as u32 {
        let tick = f64::from(number) * step;
        let at = y(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 3.5,
            escape(&unit.tick(tick))
        );
    }
    let day = |at: DateTime<Utc>| at.format("%-d %b").to_string();
    let mut dates = vec![(first.at, "start")];
    if !alone && day(first.at) != day(last.at) {
        dates.push((last.at, "end"));
    } else {
        dates = vec![(first.at, "middle")];
    }
    for (at, anchor) in dates {
        let place = if anchor == "middle" { f64::midpoint(x(first.at), x(last.at)) } else { x(at) };
        let _ =
            writeln!(svg, "<text x=\"{place:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", HEIGHT - 7.0, day(at));
    }
    if let Some(limit) = limit {
        let at = y(limit);
        let _ = writeln!(
            svg,
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"limit\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">allowed</text>",
            WIDTH - RIGHT,
            WIDTH - RIGHT,
            at - 4.0
        );
    }
    // A line through those that are made alike.
    for mark in points.iter().map(|point| point.mark).collect::<BTreeSet<_>>() {
        let alike = points.iter().filter(|point| point.mark == mark);
        let line: Vec<_> = alike.map(|point| format!("{:.1},{:.1}", x(point.at), y(point.value))).collect();
        let _ = writeln!(svg, "<polyline class=\"line {mark}\" points=\"{}\"/>", line.join(" "));
    }
    for point in &points {
        let _ = writeln!(
            svg,
            "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{}\"><title>{}: {}</title></circle>",
            point.mark,
            x(point.at),
            y(point.value),
            if points.len() > 60 { 2 } else { 3 },
            escape(&point.label),
            escape(&unit.text(point.value))
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_across_are_round() {
        for (unit, most, step) in [
            (Unit::Seconds, 215.0, 60.0),
            (Unit::Seconds, 7_200.0, 1_800.0),
            (Unit::Seconds, 0.3, 0.1),
            (Unit::Seconds, 900_000.0, 5.0 * 86_400.0),
            (Unit::Bytes, 45.0 * 1_048_576.0, 20.0 * 1_048_576.0),
            (Unit::Bytes, 1.0, 1.0),
            (Unit::Bytes, 3e12, 1024_f64.powi(4)),
        ] {
            assert!((unit.step(most) - step).abs() < step / 1e6, "{unit:?} {most}: {}", unit.step(most));
        }
    }

    #[test]
    fn a_chart_of_nothing_one_and_some() {
        assert!(chart("x", Unit::Bytes, &[], None).contains("nothing measured yet"));
        let point = |hours: i64, value| Point {
            at: DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(hours),
            value,
            label: "<daily>".to_owned(),
            mark: "daily",
        };
        let one = chart("x", Unit::Seconds, &[point(0, 0.0)], Some(7_200.0));
        assert!(one.contains("<circle") && !one.contains("NaN") && !one.contains("allowed"), "{one}");
        let some = chart("x", Unit::Seconds, &[point(48, 100.0), point(0, 50.0)], Some(200.0));
        assert!(some.contains("&lt;daily&gt;: 100 s") && some.contains("allowed"), "{some}");
        assert!(some.find("50 s</title>") < some.find("100 s</title>"), "in the order of time");
    }
}

//! The wall times as bars: a block for each group, a column for each database, a row for each contender.

use std::fmt::Write as _;
use std::path::Path;

use crate::Outcome;
use crate::databases::Database;
use crate::figures::{Figures, Group, Runs, median};
use crate::report::rows;

const LABEL_WIDTH: f64 = 340.0;
const COLUMN_WIDTH: f64 = 130.0;
const BAR_WIDTH: f64 = 86.0;
const ROW_HEIGHT: f64 = 20.0;
const BAR_HEIGHT: f64 = 12.0;
const HEAD_HEIGHT: f64 = 46.0;

/// Readable on white and on black; a viewer that knows neither sees the first.
const STYLE: &str = "
    text { font-family: system-ui, sans-serif; font-size: 12px; fill: #1f2328; }
    .head { font-weight: 600; font-size: 14px; } .column { font-weight: 600; }
    .ours { fill: #0a7d4f; } .theirs { fill: #8c959f; } .floor { fill: #d4a72c; }
    .spread { stroke: #1f2328; stroke-width: 1.2; } .cut { stroke: #ffffff; stroke-width: 3; }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3; } .ours { fill: #3fb984; } .theirs { fill: #768390; } .floor { fill: #c69026; }
        .spread { stroke: #e6edf3; } .cut { stroke: #0d1117; }
    }";

/// Writes the plot of all that was measured.
pub(crate) fn write(path: &Path, figures: &Figures) -> Outcome {
    let databases: Vec<Database> =
        Database::ALL.into_iter().filter(|database| figures.facts(*database).is_some()).collect();
    let mut body = String::new();
    let mut top = 8.0;
    for group in Group::ALL {
        block(&mut body, &mut top, figures, group, &databases)?;
    }
    if body.is_empty() {
        return Ok(());
    }
    let width = LABEL_WIDTH + COLUMN_WIDTH * databases.len() as f64 + 10.0;
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" width=\"{width}\" height=\"{top}\" role=\"img\">\n\
         <title>Wall times of pgkeep and of PostgreSQL's own tools</title>\n<style>{STYLE}\n</style>\n{body}</svg>\n"
    );
    Ok(std::fs::write(path, svg)?)
}

fn block(body: &mut String, top: &mut f64, figures: &Figures, group: Group, databases: &[Database]) -> Outcome {
    let columns: Vec<Vec<Runs>> = databases.iter().map(|database| rows(figures, *database, group)).collect();
    let mut names: Vec<&str> = Vec::new();
    for runs in columns.iter().flatten() {
        if !names.contains(&runs.contender.as_str()) {
            names.push(&runs.contender);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    text(body, "head", 4.0, *top + 16.0, &format!("{}, seconds", group.title()))?;
    for (index, database) in databases.iter().enumerate() {
        text(body, "column", column(index), *top + 36.0, database.name())?;
    }
    *top += HEAD_HEIGHT;
    for name in names {
        text(body, "label", 4.0, *top + BAR_HEIGHT - 1.0, name)?;
        for (index, runs) in columns.iter().enumerate() {
            let whole = whole_bar(runs);
            if let Some(runs) = runs.iter().find(|runs| runs.contender == name) {
                bar(body, column(index), *top, runs, whole)?;
            }
        }
        *top += ROW_HEIGHT;
    }
    *top += 14.0;
    Ok(())
}

fn column(index: usize) -> f64 {
    LABEL_WIDTH + COLUMN_WIDTH * index as f64
}

/// What a bar of full length stands for. Where one contender takes much longer than all others its bar is cut, or
/// there would be nothing to see of theirs.
fn whole_bar(runs: &[Runs]) -> f64 {
    let mut walls: Vec<f64> = runs.iter().map(|runs| median(&runs.wall_seconds)).collect();
    walls.sort_by(f64::total_cmp);
    match walls.as_slice() {
        [.., second, most] if *most > 3.0 * second => 1.3 * second,
        [.., most] => *most,
        [] => 1.0,
    }
}

fn bar(body: &mut String, left: f64, top: f64, runs: &Runs, whole: f64) -> Outcome {
    let class = match runs.contender.as_str() {
        name if name.starts_with("pgkeep") => "ours",
        name if name.starts_with("floor") => "floor",
        _ => "theirs",
    };
    let wall = median(&runs.wall_seconds);
    let length = |seconds: f64| (seconds / whole).min(1.0) * BAR_WIDTH;
    writeln!(
        body,
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" rx=\"1.5\"/>",
        length(wall)
    )?;
    let mut end = length(wall);
    let middle = top + BAR_HEIGHT / 2.0;
    if wall > whole {
        let cut = left + 0.8 * BAR_WIDTH;
        let (below, above) = (top + BAR_HEIGHT + 1.0, top - 1.0);
        writeln!(body, "<path class=\"cut\" d=\"M{:.1} {below:.1} L{:.1} {above:.1}\"/>", cut - 3.0, cut + 3.0)?;
    } else {
        let least = runs.wall_seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = runs.wall_seconds.iter().copied().fold(0.0, f64::max);
        end = end.max(length(most));
        writeln!(
            body,
            "<path class=\"spread\" d=\"M{:.1} {middle:.1} H{:.1}\"/>",
            left + length(least),
            left + length(most)
        )?;
    }
    text(body, "value", left + end + 4.0, top + BAR_HEIGHT - 1.0, &format!("{wall:.1}"))
}

fn text(body: &mut String, class: &str, x: f64, y: f64, said: &str) -> Outcome {
    let said = said.replace('&', "&amp;").replace('<', "&lt;");
    Ok(writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{said}</text>")?)
}

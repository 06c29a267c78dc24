//! One frame of the screen.

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::Paragraph,
};

use super::{
    model::Model,
    text::{head, line, names},
};

const KEYS: &str = "q quit  s sort  / filter  p pause  arrows scroll";

/// Draws what is shown now into a frame of any size.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [top, losses, table_head, table, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let width = usize::from(frame.area().width);
    let [first, second] = head(model);
    frame.render_widget(Line::from(first), top);
    let is_lossy = model.losses().0 > 0;
    let alarm = if is_lossy { Style::new().fg(Color::Red) } else { Style::new() };
    let state =
        format!("sorted by {}{}", model.sort().as_str(), if model.is_paused() { ", PAUSED" } else { "" });
    frame.render_widget(Line::styled(format!("{second}; {state}"), alarm), losses);
    frame
        .render_widget(Line::styled(names(width), Style::new().add_modifier(Modifier::REVERSED)), table_head);
    let shown = model.shown().skip(model.above()).take(usize::from(table.height));
    let lines: Vec<Line<'_>> = shown
        .map(|(about, row)| {
            let failed = row.sums.failed() > 0;
            let style = if failed { Style::new().fg(Color::Yellow) } else { Style::new() };
            Line::styled(line(model, about, row, width), style)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), table);
    frame.render_widget(Line::from(foot(model)), bottom);
}

/// What is being written, what narrows, what there is to say, or else which keys there are.
fn foot(model: &Model) -> String {
    match (model.filter(), model.message()) {
        ((filter, true), _) => format!("filter: {filter}_"),
        (_, Some(message)) => message.to_owned(),
        (("", false), None) => KEYS.to_owned(),
        ((filter, false), None) => format!("filter: {filter}  (Esc: none)  {KEYS}"),
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;

//! Leaving lines out of a YAML text without moving the others.

/// Blanks a line, counted from one, and those below it that are indented further.
pub(super) fn blank_block(text: &mut String, line: u64) {
    let Some(index) = index(line) else { return };
    let indents: Vec<_> = text.lines().map(indent).collect();
    if let Some(Some(own)) = indents.get(index) {
        blank(text, index, end(&indents, index, *own));
    }
}

/// Blanks the list item that a line, counted from one, is in; everything if it is in none.
pub(super) fn blank_item(text: &mut String, line: u64) {
    let indents: Vec<_> = text.lines().map(indent).collect();
    let Some(index) = index(line) else { return blank(text, 0, usize::MAX) };
    // What is blank has been left out before.
    let Some(own) = indents.get(index).copied().flatten() else { return };
    let lines: Vec<_> = text.lines().collect();
    let is_item = |index: &usize| lines.get(*index).is_some_and(|line| line.trim_start().starts_with('-'));
    let around = |at: &usize| *at == index || indents.get(*at).copied().flatten().is_some_and(|indent| indent < own);
    match (0..=index).rev().find(|at| is_item(at) && around(at)) {
        Some(start) => {
            let own = indents.get(start).copied().flatten().unwrap_or_default();
            blank(text, start, end(&indents, start, own));
        }
        None => blank(text, 0, usize::MAX),
    }
}

fn index(line: u64) -> Option<usize> {
    usize::try_from(line).ok()?.checked_sub(1)
}

/// Nothing for an empty line.
fn indent(line: &str) -> Option<usize> {
    line.find(|c: char| !c.is_whitespace())
}

/// The first line behind `start` that is not indented further.
fn end(indents: &[Option<usize>], start: usize, own: usize) -> usize {
    let below = indents.iter().enumerate().skip(start + 1);
    let next = below.filter_map(|(index, indent)| Some((index, (*indent)?))).find(|(_, indent)| *indent <= own);
    next.map_or(indents.len(), |(index, _)| index)
}

/// As many blanks as there were bytes, so that all places stay.
fn blank(text: &mut String, from: usize, to: usize) {
    let blanked = |line: &str| line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    let lines = text.split_inclusive('\n').enumerate();
    let lines = lines.map(|(index, line)| if (from..to).contains(&index) { blanked(line) } else { line.to_owned() });
    *text = lines.collect();
}

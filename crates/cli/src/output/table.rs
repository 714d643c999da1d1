//! Tables for people: no ruled lines, columns as narrow as possible, colour only where it carries meaning.

use comfy_table::{Attribute, CellAlignment, Color, ContentArrangement, Table, presets};
use novella_service::printable::is_unprintable;

use super::style::OutputStyle;

/// The width of tables outside a terminal: nothing wraps in a pipe.
const PIPE_WIDTH: u16 = u16::MAX;
/// The width that folded tables fit outside a terminal, where nobody knows the width of the screen.
const SCREEN_OF_A_PIPE: u16 = 120;

/// What the colour of a cell means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// No meaning, and no colour.
    #[default]
    Plain,
    /// All is well: green.
    Good,
    /// Worth a look: yellow.
    Warn,
    /// Something is wrong: red.
    Bad,
    /// Of little interest: dimmed.
    Dim,
}

/// One cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The text, not yet made printable.
    pub text: String,
    /// What its colour means.
    pub tone: Tone,
    /// Whether the text is aligned to the right, as numbers are.
    pub right: bool,
}

impl Cell {
    /// Text, aligned to the left.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A number, aligned to the right.
    pub fn number(text: impl ToString) -> Self {
        Self { text: text.to_string(), right: true, ..Self::default() }
    }

    /// This cell in another tone.
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Lays out a table. The text ends with a line break, and is empty if there is neither a header nor a row.
pub fn table_text(header: &[&str], rows: Vec<Vec<Cell>>, style: OutputStyle) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.force_no_tty().set_width(style.width.unwrap_or(PIPE_WIDTH));
    if style.color {
        table.enforce_styling();
    }
    let right =
        |column: usize| !rows.is_empty() && rows.iter().all(|row| row.get(column).is_some_and(|c| c.right));
    let header: Vec<_> = header
        .iter()
        .enumerate()
        .map(|(at, name)| {
            aligned(comfy_table::Cell::new(name.to_uppercase()), right(at)).add_attribute(Attribute::Bold)
        })
        .collect();
    if !header.is_empty() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row.into_iter().map(cell).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// Lays out a table with further columns. If all columns fit the screen, they are side by side. If not, the further
/// columns are folded: they follow below each row, as `name: text` where they are not empty.
pub fn folded_table_text(
    header: &[&str],
    further: &[&str],
    rows: Vec<(Vec<Cell>, Vec<Cell>)>,
    style: OutputStyle,
) -> String {
    let screen = usize::from(style.width.unwrap_or(SCREEN_OF_A_PIPE));
    let unlimited = OutputStyle { width: None, ..style };
    let plain = OutputStyle { color: false, ..unlimited };
    let whole = || rows.iter().map(|(first, more)| [&first[..], more].concat()).collect();
    let all = [header, further].concat();
    if further.is_empty()
        || table_text(&all, whole(), plain).lines().all(|line| line.chars().count() <= screen)
    {
        return table_text(&all, whole(), unlimited);
    }
    let (firsts, furthers): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let table = table_text(header, firsts, unlimited);
    let mut lines = table.lines();
    let mut text = lines.next().map_or_else(String::new, |header| format!("{header}\n"));
    for (line, cells) in lines.zip(furthers) {
        text.push_str(line);
        text.push('\n');
        let named = further.iter().zip(&cells).filter(|(_, cell)| !cell.text.is_empty());
        let named: Vec<_> = named.map(|(name, cell)| format!("{name}: {}", printable(&cell.text))).collect();
        fold(&named, screen, &mut text);
    }
    text
}

/// Writes the parts of a text behind an indent, as many on a line as fit. A part that is longer than a line continues, at a
/// blank, on the next one, indented further.
fn fold(parts: &[String], width: usize, text: &mut String) {
    const INDENT: &str = "    ";
    let mut line = String::new();
    let mut end_line = |line: &mut String| {
        text.push_str(line.trim_end());
        text.push('\n');
        line.clear();
    };
    for part in parts {
        let length = part.chars().count();
        if line.is_empty() {
            line.push_str(INDENT);
        } else if line.chars().count() + 2 + length <= width {
            line.push_str("  ");
        } else {
            end_line(&mut line);
            line.push_str(INDENT);
        }
        for (at, word) in part.split(' ').enumerate() {
            let blank = usize::from(at > 0);
            if at > 0 && line.chars().count() + blank + word.chars().count() > width {
                end_line(&mut line);
                line.push_str(INDENT);
                line.push_str(INDENT);
            } else if at > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    if !line.is_empty() {
        end_line(&mut line);
    }
}

fn aligned(cell: comfy_table::Cell, right: bool) -> comfy_table::Cell {
    cell.set_alignment(if right { CellAlignment::Right } else { CellAlignment::Left })
}

fn cell(cell: Cell) -> comfy_table::Cell {
    let shown = aligned(comfy_table::Cell::new(printable(&cell.text)), cell.right);
    match cell.tone {
        Tone::Plain => shown,
        Tone::Good => shown.fg(Color::Green),
        Tone::Warn => shown.fg(Color::Yellow),
        Tone::Bad => shown.fg(Color::Red),
        Tone::Dim => shown.add_attribute(Attribute::Dim),
    }
}

/// The text without unprintable characters: it stays on one line, cannot change a terminal's state, and hides nothing.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_free_of_trailing_blanks() {
        let rows = vec![
            vec![Cell::text("cmp-1"), Cell::number(8), Cell::text("")],
            vec![Cell::text("c2"), Cell::number(128), Cell::text("x")],
        ];
        let text = table_text(&["host", "vcpus", "note"], rows, OutputStyle::default());
        assert_eq!(text, "HOST   VCPUS  NOTE\ncmp-1      8\nc2       128  x\n");
    }

    #[test]
    fn further_columns_are_folded_below_their_row_unless_they_fit() {
        let row = |host: &str, note: &str| {
            (vec![Cell::text(host), Cell::number(8)], vec![Cell::number(2), Cell::text(note), Cell::text("")])
        };
        let rows = || vec![row("cmp-1", "a b c"), row("c2", "aaaa bbbb cccc dddd")];
        let text = |width| {
            let style = OutputStyle { width: Some(width), ..OutputStyle::default() };
            folded_table_text(&["host", "vcpus"], &["free", "traits", "none"], rows(), style)
        };
        let whole = "HOST   VCPUS  FREE  TRAITS               NONE\ncmp-1      8     2  a b c\nc2         8     2  aaaa bbbb cccc dddd\n";
        assert_eq!(text(45), whole);
        let folded = "HOST   VCPUS\ncmp-1      8\n    free: 2  traits: a b c\nc2         8\n    free: 2\n    traits: aaaa bbbb cccc\n        dddd\n";
        assert_eq!(text(28), folded);
        assert_eq!(folded_table_text(&["host"], &["x"], Vec::new(), OutputStyle::default()), "HOST  X\n");
    }

    #[test]
    fn colour_only_where_it_is_wanted_and_control_characters_never() {
        let rows = || vec![vec![Cell::text("up\x1b[2J").tone(Tone::Good)]];
        assert_eq!(table_text(&[], rows(), OutputStyle::default()), "up\u{fffd}[2J\n");
        let colored = table_text(&[], rows(), OutputStyle { color: true, ..OutputStyle::default() });
        assert!(colored.contains("\x1b[38;5;10m") && !colored.contains("\x1b[2J"), "{colored:?}");
    }
}

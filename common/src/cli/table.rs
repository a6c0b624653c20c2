//! Tables, for people: aligned columns without lines. Nothing is wrapped or cut off, whatever the width of the terminal, so that
//! they can be read by `awk` as well.

use comfy_table::{CellAlignment, ContentArrangement, Row};

use super::{harmless, print_line};

/// Blanks between columns.
const GAP: u16 = 2;

/// A column's heading, and on which side its cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Rows of cells under headings.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// With these columns.
    pub fn new(columns: &[Column]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|column| match column {
            Column::Left(heading) | Column::Right(heading) => *heading,
        }));
        for (index, column) in columns.iter().enumerate() {
            let Some(shown) = table.column_mut(index) else { continue };
            shown.set_padding((0, GAP));
            if let Column::Right(_) = column {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// One more row, a cell for each column. Strangers may have written them.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        // Escaped first: what is shown has another width.
        self.0.add_row(Row::from(cells.map(|cell| harmless(&cell).into_owned())));
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its lines, the headings first.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.lines().map(|line| line.trim_end().to_owned())
    }

    /// Prints it, each line indented by so many blanks.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn print(&self, indent: usize) -> std::io::Result<()> {
        self.lines().try_for_each(|line| print_line(&format!("{:indent$}{line}", "")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen_and_nothing_is_cut_off() {
        let mut table = Table::new(&[Column::Left("NAME"), Column::Right("SIZE"), Column::Left("ID")]);
        let id = "4be6c1e2d4b0f7a09c1d2e3f40516273".repeat(10);
        table.row(["日本.txt".into(), "1 B".into(), id.clone()]);
        table.row(["a\u{1b}[2J\nb".into(), "1000.0 MiB".into(), String::new()]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "NAME                     SIZE  ID");
        // Two columns wide each.
        assert_eq!(lines[1], format!("日本.txt                  1 B  {id}"));
        assert_eq!(lines[2], "a\\u001b[2J\\u000ab  1000.0 MiB");
        assert_eq!(lines.len(), 3);
    }
}

//! Columns for people.

use std::fmt;

use super::output::printable;

/// A table of `N` columns.
pub struct Table<const N: usize> {
    lines: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with nothing but its head.
    pub fn new(head: [&str; N]) -> Self {
        Table { lines: vec![head.map(str::to_owned)] }
    }

    /// Adds a row. Where there is nothing to say, `-` stands.
    pub fn row(&mut self, cells: [&str; N]) {
        self.lines
            .push(cells.map(|cell| Some(printable(cell)).filter(|cell| !cell.is_empty()).unwrap_or("-".to_owned())));
    }

    fn widths(&self) -> [usize; N] {
        let mut widths = [0; N];
        for line in &self.lines {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        }
        widths
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for line in &self.lines {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["KIND", "NAME", "REASON"]);
        table.row(["Cluster", "north", ""]);
        table.row(["PublicService", "wäb", "Un\nknown"]);
        let expected = "KIND           NAME   REASON\n\
                        Cluster        north  -\n\
                        PublicService  wäb    Un known\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_table_of_nothing_is_its_head() {
        assert_eq!(Table::new(["A", "B"]).to_string(), "A  B\n");
    }
}

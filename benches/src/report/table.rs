//! A table in Markdown.

use std::fmt;

/// Columns, rows, and what is to be said below them.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    targets: Vec<String>,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// # Panics
    ///
    /// If it has not as many cells as there are columns.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// A paragraph below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What is aimed at, what was measured of it, and whether that is enough.
    pub(crate) fn target(&mut self, aim: &str, measured: &str, is_met: bool) {
        let verdict = if is_met { "met" } else { "**missed**" };
        self.targets.push(format!("- {aim}: {verdict}, {measured}"));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        if !self.targets.is_empty() {
            writeln!(f, "\n{}", self.targets.join("\n"))?;
        }
        Ok(())
    }
}

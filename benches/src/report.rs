//! What was measured, as a document.

mod document;
mod machine;
mod table;

use std::fmt;

use chart::Chart;

pub(crate) use document::Document;
pub(crate) use table::Table;

/// What a chapter measured.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// By the names of their places in the document.
    tables: Vec<(&'static str, Table)>,
    /// By the names of their files.
    charts: Vec<(&'static str, Chart)>,
}

impl Section {
    #[must_use]
    pub(crate) fn table(mut self, place: &'static str, table: Table) -> Self {
        self.tables.push((place, table));
        self
    }

    #[must_use]
    pub(crate) fn chart(mut self, name: &'static str, chart: Chart) -> Self {
        self.charts.push((name, chart));
        self
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.tables.extend(other.tables);
        self.charts.extend(other.charts);
        self
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, table) in &self.tables {
            writeln!(f, "\n{place}\n\n{table}")?;
        }
        Ok(())
    }
}

//! `docs/results.md`: prose by hand around what is generated between markers.

use std::fs;
use std::path::PathBuf;

use super::{Section, machine};
use crate::Failure;

pub(crate) struct Document {
    folder: PathBuf,
    /// What measures.
    machine: String,
    /// Of the commit that is measured.
    when: String,
}

impl Document {
    /// The document of this checkout.
    pub(crate) fn find() -> Self {
        Self {
            folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs"),
            machine: machine::table().to_string(),
            when: machine::when(),
        }
    }

    /// Writes what a chapter measured in its places, and at the head by what.
    ///
    /// # Errors
    ///
    /// If the document lacks a place, or a file cannot be read or written.
    pub(crate) fn put(&self, section: Section) -> Result<(), Failure> {
        let file = self.folder.join("results.md");
        // Read each time, since somebody may write prose meanwhile.
        let mut text = replace(&fs::read_to_string(&file)?, "machine", &self.machine)?;
        for (place, table) in &section.tables {
            text = replace(&text, place, &format!("{table}\n{}\n", self.when))?;
        }
        for (name, chart) in &section.charts {
            let file = self.folder.join(format!("performance-{name}.svg"));
            fs::write(file, chart.svg()?)?;
        }
        Ok(fs::write(file, text)?)
    }
}

/// The text with other content between `<!-- place: begin -->` and `<!-- place: end -->`.
fn replace(text: &str, place: &str, content: &str) -> Result<String, Failure> {
    let (begin, end) = (
        format!("<!-- {place}: begin -->\n"),
        format!("<!-- {place}: end -->"),
    );
    let missing = || format!("docs/results.md has no place for {place}");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{content}\n{end}{after}"))
}

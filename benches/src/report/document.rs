//! `docs/performance.md`: prose by hand around what is generated between markers.

use std::fs;
use std::path::PathBuf;

use super::{Section, machine};
use crate::Failure;

pub(crate) struct Document {
    folder: PathBuf,
    text: String,
    /// Of the commit that is measured.
    when: String,
}

impl Document {
    /// Opens the document of this checkout, and says at its head what measures.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or has no place for the head.
    pub(crate) fn open() -> Result<Self, Failure> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let mut document = Self {
            text: fs::read_to_string(folder.join("performance.md"))?,
            folder,
            when: machine::when(),
        };
        document.replace("machine", &machine::table().to_string())?;
        Ok(document)
    }

    /// Writes what a chapter measured in its places.
    ///
    /// # Errors
    ///
    /// If the document lacks a place, or a file cannot be written.
    pub(crate) fn put(&mut self, section: Section) -> Result<(), Failure> {
        for (place, table) in &section.tables {
            self.replace(place, &format!("{table}\n{}\n", self.when))?;
        }
        for (name, chart) in &section.charts {
            let file = self.folder.join(format!("performance-{name}.svg"));
            fs::write(file, chart.svg()?)?;
        }
        fs::write(self.folder.join("performance.md"), &self.text)?;
        Ok(())
    }

    /// What stands between `<!-- place: begin -->` and `<!-- place: end -->`.
    fn replace(&mut self, place: &str, content: &str) -> Result<(), Failure> {
        let (begin, end) = (
            format!("<!-- {place}: begin -->\n"),
            format!("<!-- {place}: end -->"),
        );
        let missing = || format!("docs/performance.md has no place for {place}");
        let (before, rest) = self.text.split_once(&begin).ok_or_else(missing)?;
        let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
        self.text = format!("{before}{begin}\n{content}\n{end}{after}");
        Ok(())
    }
}

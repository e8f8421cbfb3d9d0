use std::fs;

use crate::Error;

/// Whom PostgreSQL runs as when we are root, which it refuses to run as.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    pub(crate) fn find() -> Result<Self, Error> {
        let accounts =
            fs::read_to_string("/etc/passwd").map_err(Error::because("cannot read /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| accounts.lines().find_map(|line| Self::parse(line, name)))
            .ok_or_else(|| {
                Error::new(
                    "PostgreSQL does not run as root, and there is no user postgres or nobody",
                )
            })
    }

    /// Reads `postgres:x:101:104:…`.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Self { user, group })
    }
}

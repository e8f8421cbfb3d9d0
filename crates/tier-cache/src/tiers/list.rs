//! How a user's sessions are listed, page by page.

use std::sync::Arc;

use serde::Serialize;
use session_core::{Device, SessionId, Standing, Timestamp, UserId, Version};

use super::Tiers;
use crate::cold::{ColdStore, Cursor, Row};
use crate::data::SessionData;
use crate::error::Error;
use crate::session::Session;

/// Sessions on one page at most.
const MOST: u32 = 1000;

/// A session as its user sees it in a list of devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The session.
    pub id: SessionId,
    /// Whether it is the one that asks; see [`Session::siblings`].
    pub current: bool,
    /// Its version.
    pub version: Version,
    /// The device it was made on.
    pub device: Device,
    /// When the session began.
    pub created_at: Timestamp,
    /// When its user last proved to be that user.
    pub authenticated_at: Timestamp,
    /// When it was last seen, as far as the database knows: up to `session.touch_interval` later.
    pub last_seen_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Listed {
    fn of(row: Row) -> Self {
        Self {
            id: row.head.id,
            current: false,
            version: row.head.version,
            device: row.body.device,
            created_at: row.body.created_at,
            authenticated_at: row.head.authenticated_at,
            last_seen_at: row.head.last_seen_at,
            expires_at: row.head.expires_at,
        }
    }
}

/// A part of a user's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPage {
    /// The most recently seen first. There may be none although a page comes after this one: those that
    /// went unused for too long are left out.
    pub sessions: Vec<Listed>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<Cursor>,
}

impl<D: SessionData> Tiers<D> {
    /// The sessions of a user that can be accepted now, the most recently seen first; at most
    /// 1,000. For more there is [`list_page`](Self::list_page).
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn list(&self, user: UserId) -> Result<Vec<Listed>, Error> {
        Ok(self.list_page(user, None, MOST).await?.sessions)
    }

    /// The sessions of a user that can be accepted now, the most recently seen first, on pages of `size` (1
    /// to 1,000; others are brought within). With `after` the page after the one that named it as its
    /// [`next`](ListedPage::next).
    ///
    /// A session that is used while its user turns pages moves to the first.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn list_page(
        &self,
        user: UserId,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<ListedPage, Error> {
        let shared = self.shared();
        let _permit = shared.admit_write()?;
        let size = size.clamp(1, MOST);
        let now = shared.clock.now().wall;
        // One more shows whether there is a next page.
        let list =
            async move |store: Arc<dyn ColdStore>| store.list(user, now, after, size + 1).await;
        let mut rows = shared.run_detached(list).await?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let next = rows.last().filter(|_| more).map(|row| Cursor {
            last_seen_at: row.head.last_seen_at,
            id: row.head.id,
        });
        let rows = rows.into_iter();
        let valid = rows.filter(|row| row.head.standing(now) == Standing::Valid);
        Ok(ListedPage {
            sessions: valid.map(Listed::of).collect(),
            next,
        })
    }
}

impl<D: SessionData> Session<D> {
    /// The sessions of the same user, this one marked; a guest's alone has none. At most the 1,000 that were
    /// seen last, and this one in any case.
    ///
    /// # Errors
    ///
    /// As [`Tiers::list`].
    pub async fn siblings(&self) -> Result<Vec<Listed>, Error> {
        Ok(self.siblings_page(None, MOST).await?.sessions)
    }

    /// As [`siblings`](Self::siblings), on pages, as [`Tiers::list_page`] has them. This session is on the
    /// first page: first of all, if it were on another one otherwise.
    ///
    /// # Errors
    ///
    /// As [`Tiers::list`].
    pub async fn siblings_page(
        &self,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<ListedPage, Error> {
        let Some(user) = self.user() else {
            return Ok(ListedPage {
                sessions: Vec::new(),
                next: None,
            });
        };
        let tiers = self.tiers();
        let mut page = tiers.list_page(user.id, after, size).await?;
        if after.is_some() {
            page.sessions.retain(|listed| listed.id != self.id());
            return Ok(page);
        }
        if !page.sessions.iter().any(|listed| listed.id == self.id()) {
            match tiers.row(self.id()).await {
                Ok(row) => page.sessions.insert(0, Listed::of(row)),
                // It has ended meanwhile.
                Err(Error::Refused(refusal)) if !refusal.is_unavailable() => {}
                Err(error) => return Err(error),
            }
        }
        for listed in &mut page.sessions {
            listed.current = listed.id == self.id();
        }
        Ok(page)
    }
}

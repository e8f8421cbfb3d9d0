//! How what a session holds is changed.

use std::sync::Arc;

use session_core::{DataError, Head, Key, SessionId, Version};

use super::admission::AdmissionPermit;
use super::load::From;
use super::login::bounded_text;
use super::verdict::Presented;
use super::{ATTEMPTS, Shared, Tiers};
use crate::cold::{Change, Row};
use crate::data::{self, SessionData};
use crate::error::{Error, Refusal};
use crate::session::{BodyRef, Session};

impl<D: SessionData> Tiers<D> {
    /// Changes a session's data, whatever others do to the session at the same time: `change` is
    /// made to what is stored, and made again to the newer data if that was changed meanwhile.
    ///
    /// If the future is dropped, the change may have been made.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if others were faster many times over; [`Error::Refused`] if the
    /// session is no longer accepted; [`Error::Data`] if what is stored does not read as `D` (see
    /// [`replace_data`](Self::replace_data)); [`Error::DataTooLarge`], [`Error::Unwritable`],
    /// [`Error::Store`].
    #[tracing::instrument(level = "debug", name = "session.update", skip_all, fields(session = %session.id()))]
    pub async fn update(
        &self,
        session: &Session<D>,
        mut change: impl FnMut(&mut D),
    ) -> Result<Session<D>, Error> {
        let changed = |stored: Result<&D, DataError>| {
            let mut data = stored?.clone();
            change(&mut data);
            Ok(data)
        };
        self.update_to(session, changed).await
    }

    /// Puts this in the place of a session's data, whatever is stored: also what does not read as
    /// `D`, because another release of the application wrote it.
    ///
    /// If the future is dropped, the change may have been made.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but never [`Error::Data`].
    #[tracing::instrument(level = "debug", name = "session.replace_data", skip_all, fields(session = %session.id()))]
    pub async fn replace_data(&self, session: &Session<D>, data: D) -> Result<Session<D>, Error> {
        self.update_to(session, |_| Ok(data.clone())).await
    }

    /// Stores the data that `changed` makes of what is stored, or of why that does not read.
    async fn update_to(
        &self,
        session: &Session<D>,
        mut changed: impl FnMut(Result<&D, DataError>) -> Result<D, Error>,
    ) -> Result<Session<D>, Error> {
        let id = session.id();
        let permit = self.shared().admit_write()?;
        let _guard = self.shared().key_locks.lock(id).await?;
        let mut body = session.body_ref();
        let mut version = session.version();
        for _ in 0..ATTEMPTS {
            let (stored, at) = match body.take() {
                Some(body) => (body, version),
                None => {
                    let newest = self.reread(Key::Id(id), session.presented()).await?;
                    let newest = match newest.body_ref() {
                        Some(body) => body,
                        None => self.whole(id, newest.version()).await?,
                    };
                    // The body's own: it may be a later one than the session's.
                    version = newest.version();
                    (newest, version)
                }
            };
            let data = changed(stored.data())?;
            let change = Change {
                data: Some(data::write(&data, self.config().session.max_data.as_u64())?),
                ..Change::default()
            };
            if let Some(session) = self
                .change(&permit, id, at, session.presented(), change)
                .await?
            {
                return Ok(session);
            }
        }
        Err(Error::Conflict { attempts: ATTEMPTS })
    }

    /// Gives a session's device a name that its user knows it by, cut to 512 bytes. Any session's:
    /// for what a user names in a request there is [`Session::name_device`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the session is no longer accepted; [`Error::Conflict`],
    /// [`Error::Store`].
    #[tracing::instrument(level = "debug", name = "session.rename", skip_all, fields(session = %id))]
    pub async fn name_device(&self, id: SessionId, name: &str) -> Result<Session<D>, Error> {
        self.name_device_if(id, name, |_| true).await
    }

    async fn name_device_if(
        &self,
        id: SessionId,
        name: &str,
        may: impl Fn(&Row) -> bool,
    ) -> Result<Session<D>, Error> {
        let permit = self.shared().admit_write()?;
        let _guard = self.shared().key_locks.lock(id).await?;
        for _ in 0..ATTEMPTS {
            let row = self.row(id).await?;
            if !may(&row) {
                return Err(Refusal::Unknown.into());
            }
            let change = Change {
                label: Some(bounded_text(name.into())),
                ..Change::default()
            };
            let changed = self.change(&permit, id, row.head.version, Presented::Nothing, change);
            if let Some(session) = changed.await? {
                return Ok(session);
            }
        }
        Err(Error::Conflict { attempts: ATTEMPTS })
    }

    /// The body of a session at `version` or newer, from the database if it is not hot.
    pub(crate) async fn whole(
        &self,
        id: SessionId,
        version: Version,
    ) -> Result<BodyRef<D>, Refusal> {
        /// A newer head may have come to the hot tier before the body that was read.
        const TRIES: u32 = 4;

        let key = Key::Id(id);
        for attempt in 0..TRIES {
            let found = match attempt {
                // What was under way already, or comes from a copy of the database, may be older.
                0 => {
                    let (load, _) = self.shared().shared_load(key, From::Cold);
                    let landed = load.result().await;
                    let landed = landed.unwrap_or_else(|| Err(self.shared().too_late()))?;
                    self.judge(landed, Presented::Nothing).ok()
                }
                _ => Some(self.reread(key, Presented::Nothing).await?),
            };
            if let Some(body) = found.and_then(|session| session.body_ref())
                && body.version() >= version
            {
                return Ok(body);
            }
        }
        Err(self.shared().too_late())
    }

    /// Makes a change if the session is still at `version`; `None` if it is not.
    pub(super) async fn change(
        &self,
        permit: &AdmissionPermit,
        id: SessionId,
        version: Version,
        presented: Presented,
        change: Change,
    ) -> Result<Option<Session<D>>, Error> {
        let tiers = self.clone();
        self.write(permit, async move |shared: Arc<Shared<D>>| {
            if !shared.store.update(id, version, change).await? {
                return Ok(None);
            }
            shared.land_written(id, tiers, presented).await.map(Some)
        })
        .await
    }
}

impl<D: SessionData> Session<D> {
    /// Gives the device of this session, or of another of the same user, a name that the user knows
    /// it by, cut to 512 bytes.
    ///
    /// # Errors
    ///
    /// As [`Tiers::name_device`]; [`Refusal::Unknown`] also if it is somebody else's.
    pub async fn name_device(&self, id: SessionId, name: &str) -> Result<Self, Error> {
        let own = |row: &Row| {
            let user = |head: &Head| head.user.as_ref().map(|user| user.id);
            row.head.id == self.id()
                || (self.user().is_some() && user(&row.head) == user(self.head()))
        };
        self.tiers().name_device_if(id, name, own).await
    }
}

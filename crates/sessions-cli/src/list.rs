//! A user's sessions.

use session_core::{Timestamp, UserId};
use tier_cache::Listed;

use crate::cli::{List, Place};
use crate::failure::Failure;
use crate::opening::{config, open_without_key};
use crate::output::{harmless, print, when};

pub(crate) async fn run(place: &Place, asked: List) -> Result<(), Failure> {
    let mut config = config(place)?;
    config.warm.url = None;
    let tiers = open_without_key(config).await?;
    let (mut sessions, mut after) = (Vec::new(), None);
    loop {
        let page = tiers.list_page(UserId::Int(asked.user), after, u32::MAX);
        let page = page.await?;
        sessions.extend(page.sessions);
        match page.next {
            None => break,
            next => after = next,
        }
    }
    if asked.json {
        let text = serde_json::to_string_pretty(&sessions);
        return print(&text.map_err(Failure::failed)?);
    }
    if sessions.is_empty() {
        return print(&format!(
            "user {} has no session that is accepted now",
            asked.user
        ));
    }
    print(&table(&sessions, tiers.now().wall))
}

fn table(sessions: &[Listed], now: Timestamp) -> String {
    let mut rows = vec![["SESSION", "LAST SEEN", "BEGAN", "EXPIRES", "DEVICE"].map(String::from)];
    rows.extend(sessions.iter().map(|session| {
        [
            session.id.to_string(),
            when(session.last_seen_at, now),
            when(session.created_at, now),
            when(session.expires_at, now),
            device(&session.device),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for [id, seen, began, expires, device] in &rows {
        let line = format!(
            "{id:0$}  {seen:1$}  {began:2$}  {expires:3$}  {device}",
            widths[0], widths[1], widths[2], widths[3]
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A device in one line.
pub(crate) fn device(device: &session_core::Device) -> String {
    let label = device.label.as_deref().map(|label| format!("“{label}”"));
    let ip = device.ip.map(|ip| ip.to_string());
    let agent = device.user_agent.as_deref().map(str::to_owned);
    let parts: Vec<String> = [label, ip, agent].into_iter().flatten().collect();
    harmless(&parts.join(" "))
}

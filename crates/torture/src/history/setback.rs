//! The database went back: what was committed before may be lost.

use std::collections::HashMap;

/// The database went back. It is the end of one history, and the begin of the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setback {
    /// What made it go back.
    pub what: String,
    /// Whether rows were missing for a while that came back.
    pub emptied: bool,
    /// Just before it went back: what is served from here on may be of either history.
    pub began_at: i64,
    /// When the question was sent that told what the next history begins with. Its rows are there by then.
    pub asked_at: i64,
    /// When it was answered. The bound counts from here.
    pub answered_at: i64,
    /// The sessions that the next history begins with.
    pub rows: HashMap<usize, Row>,
}

/// A session in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// How often it changed.
    pub version: i64,
    /// Whether it is valid.
    pub active: bool,
    /// Of its last change.
    pub tag: u64,
}

/// A login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// It was committed after this.
    pub asked_at: i64,
    /// It was committed by then.
    pub committed_by: i64,
}

/// A change of a session that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which session.
    pub session: usize,
    /// What it left in the session; zero for a change that leaves none.
    pub tag: u64,
    /// It was committed after this.
    pub asked_at: i64,
    /// It was committed by then; `i64::MAX` if nobody knows whether it was, or when.
    pub committed_by: i64,
}

/// A session that was refused although the client knew of no reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which session.
    pub session: usize,
    /// By which node.
    pub node: Option<usize>,
    /// What it said.
    pub said: String,
    /// How often the database had gone back when the client asked, and when it was told.
    pub setbacks: usize,
    /// When the client asked.
    pub asked_at: i64,
    /// When it was told.
    pub refused_at: i64,
}

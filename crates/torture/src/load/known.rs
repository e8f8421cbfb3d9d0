//! What the clients know of a session.

use crate::history::Login;
use crate::wire::Tokens;

/// A session that a client logged in to.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) tokens: Tokens,
    /// Pairs of before, the last last: a database that goes back knows one of them again.
    pub(super) former: Vec<Tokens>,
    pub(super) login: Login,
    /// How often somebody began to trade the tokens in, or had done so.
    pub(super) traded: u64,
    /// Increments that were acknowledged, and those of which nobody knows.
    pub(super) counted: u64,
    pub(super) in_doubt: u64,
    /// Nobody is to use it any more but for reading.
    pub(super) over: bool,
    /// Somebody asked to end it, or to trade its tokens in, and nobody knows what came of it.
    pub(super) end_in_doubt: bool,
}

impl Known {
    /// A session that is in use, or whose tokens nobody knows to be good.
    pub(super) fn new(id: String, tokens: Tokens, login: Login, is_sure: bool) -> Self {
        Self {
            id,
            tokens,
            former: Vec::new(),
            login,
            traded: 0,
            counted: 0,
            in_doubt: 0,
            over: !is_sure,
            end_in_doubt: false,
        }
    }

    /// Whether nobody knows which tokens are good.
    pub(super) fn is_being_traded(&self) -> bool {
        self.traded % 2 == 1
    }

    /// Puts new tokens in the place of those that were traded in.
    pub(super) fn trade(&mut self, tokens: Tokens) {
        /// A database does not go back further than a few trades.
        const KEPT: usize = 8;
        if self.former.len() == KEPT {
            self.former.remove(0);
        }
        let former = std::mem::replace(&mut self.tokens, tokens);
        self.former.push(former);
        self.traded += 1;
    }
}

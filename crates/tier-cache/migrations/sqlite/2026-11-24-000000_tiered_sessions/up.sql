-- The truth about sessions. Times are whole milliseconds since 1970 (UTC).
--
-- Two things number changes, whoever makes them, plain SQL by any program included:
--   version           how often this session changed in a way that matters
--   changed_at_mark   the value that session_history.mark took with the last such change
-- A node reads "everything changed at or above mark M" to learn what it must no longer serve.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    username      TEXT NOT NULL UNIQUE,
    password_hash TEXT,
    is_active     BOOLEAN NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
);

CREATE TABLE sessions (
    -- In the one form that we write: another would not be found by its id, nor be read by the feed.
    id                 TEXT NOT NULL PRIMARY KEY CHECK (
        typeof(id) = 'text' AND id GLOB '????????-????-????-????-????????????'
        AND length(replace(id, '-', '')) = 32 AND id NOT GLOB '*[^-0-9a-f]*'),
    user_id            INTEGER REFERENCES users (id) ON DELETE CASCADE,
    is_active          BOOLEAN NOT NULL DEFAULT 1,
    revoked_at         INTEGER,
    expires_at         INTEGER NOT NULL,
    created_at         INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    last_seen_at       INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    access_jti         BLOB UNIQUE CHECK (length(access_jti) = 16),
    refresh_token_hash BLOB UNIQUE CHECK (length(refresh_token_hash) = 16),
    ip                 TEXT,
    user_agent         TEXT,
    label              TEXT,
    data               TEXT NOT NULL DEFAULT 'null' CHECK (json_valid(data)),
    -- What the login proved, and when; who asks for a recent or a strong one counts from here.
    authenticated_at   INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    assurance          INTEGER NOT NULL DEFAULT 0 CHECK (assurance BETWEEN 0 AND 255),
    -- How long a refresh makes it live, if not as long as the configuration says.
    ttl_seconds        INTEGER CHECK (ttl_seconds > 0),
    -- Unused for longer than this it ends; NULL: never for that. It allows for `last_seen_at` being
    -- noted late.
    idle_seconds       INTEGER CHECK (idle_seconds > 0),
    -- The refresh token before this one, when it was traded in, and the random part of what it was
    -- traded for; so that all who trade it in at the same time get the same.
    previous_refresh_hash BLOB CHECK (length(previous_refresh_hash) = 16),
    refresh_salt       BLOB CHECK (length(refresh_salt) = 16),
    refreshed_at       INTEGER,
    version            INTEGER NOT NULL DEFAULT 1,
    changed_at_mark    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);
-- Logins are no changes that a node asks for.
CREATE INDEX sessions_changed_at_mark_idx ON sessions (changed_at_mark) WHERE version > 1;
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);

-- What a deleted session leaves behind, so that no cache can bring it back.
CREATE TABLE session_tombstones (
    id         TEXT NOT NULL,
    mark       INTEGER NOT NULL,
    deleted_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    PRIMARY KEY (mark, id)
) WITHOUT ROWID;
CREATE INDEX session_tombstones_id_idx ON session_tombstones (id);

-- One row. `mark` numbers the changes; every tombstone at or above `tombstones_since` is still kept.
-- `lineage` is random: what was read in another is of a history that this database does not have, or
-- not all of; so it is changed whenever commits may have been lost.
CREATE TABLE session_history (
    only_row         INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    mark             INTEGER NOT NULL,
    tombstones_since INTEGER NOT NULL,
    lineage          INTEGER NOT NULL
);
INSERT INTO session_history (only_row, mark, tombstones_since, lineage) VALUES (1, 1, 0, random());

-- "Every change numbered below this is in the database": writers are serial.
CREATE VIEW session_now AS
    SELECT mark + 1 AS mark, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS wall,
        lineage, 0 AS moved
    FROM session_history;

CREATE TRIGGER sessions_keep_id BEFORE UPDATE OF id ON sessions WHEN NEW.id <> OLD.id
BEGIN
    SELECT RAISE(ABORT, 'sessions.id is a name and never changes: insert a new session and revoke the old one');
END;

-- INSERT OR REPLACE would drop the old row without firing its delete trigger.
CREATE TRIGGER sessions_keep_row BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id OR access_jti = NEW.access_jti
             OR refresh_token_hash = NEW.refresh_token_hash)
BEGIN
    SELECT RAISE(ABORT, 'a session of this id or key exists: update it, or delete it first');
END;

CREATE TRIGGER sessions_use_id_once BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM session_tombstones WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'a session of this id was deleted, and every node refuses the id: insert the session under a new one');
END;

-- UPDATE OR REPLACE would, too.
CREATE TRIGGER sessions_keep_others BEFORE UPDATE OF access_jti, refresh_token_hash ON sessions
WHEN EXISTS (SELECT 1 FROM sessions WHERE id <> OLD.id AND (access_jti = NEW.access_jti
             OR refresh_token_hash = NEW.refresh_token_hash))
BEGIN
    SELECT RAISE(ABORT, 'another session has this key: delete it first');
END;

-- A trigger cannot change NEW, so the row is numbered after the fact.
CREATE TRIGGER sessions_number_insert AFTER INSERT ON sessions
BEGIN
    UPDATE session_history SET mark = mark + 1;
    UPDATE sessions SET version = 1, changed_at_mark = (SELECT mark FROM session_history) WHERE id = NEW.id;
END;

-- A new version number written by hand asks for a bump, as the users trigger does; so does a mark
-- other than the newest: a row that is written back whole brings the numbers of an earlier time.
-- What the two triggers here write themselves changes nothing else and sets the newest mark,
-- which is what stops the recursion.
CREATE TRIGGER sessions_number_update AFTER UPDATE ON sessions
WHEN NEW.user_id IS NOT OLD.user_id
  OR NEW.is_active IS NOT OLD.is_active OR NEW.revoked_at IS NOT OLD.revoked_at
  OR NEW.expires_at IS NOT OLD.expires_at OR NEW.access_jti IS NOT OLD.access_jti
  OR NEW.refresh_token_hash IS NOT OLD.refresh_token_hash OR NEW.ip IS NOT OLD.ip
  OR NEW.user_agent IS NOT OLD.user_agent OR NEW.label IS NOT OLD.label OR NEW.data IS NOT OLD.data
  OR NEW.authenticated_at IS NOT OLD.authenticated_at OR NEW.assurance IS NOT OLD.assurance
  OR NEW.idle_seconds IS NOT OLD.idle_seconds
  OR ((NEW.version IS NOT OLD.version OR NEW.changed_at_mark IS NOT OLD.changed_at_mark)
      AND (NEW.changed_at_mark IS OLD.changed_at_mark
           OR NEW.changed_at_mark IS NOT (SELECT mark FROM session_history)))
BEGIN
    UPDATE session_history SET mark = mark + 1;
    UPDATE sessions SET version = OLD.version + 1, changed_at_mark = (SELECT mark FROM session_history)
        WHERE id = NEW.id;
END;

-- Pruning needs no trace: whoever still trusts a cache has seen the row's last change (it is older
-- than the tombstones that are kept), and so refuses the session for its own expiry. The hour is
-- for clocks that disagree.
CREATE TRIGGER sessions_leave_tombstone AFTER DELETE ON sessions
WHEN NOT (OLD.expires_at < CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - 3600000
          AND OLD.changed_at_mark < (SELECT tombstones_since FROM session_history))
BEGIN
    UPDATE session_history SET mark = mark + 1;
    INSERT OR IGNORE INTO session_tombstones (id, mark) VALUES (OLD.id, (SELECT mark FROM session_history));
END;

-- The user's summary stands in every head of the user's sessions.
CREATE TRIGGER users_touch_sessions AFTER UPDATE ON users
WHEN NEW.id IS NOT OLD.id
  OR NEW.email IS NOT OLD.email OR NEW.username IS NOT OLD.username OR NEW.is_active IS NOT OLD.is_active
BEGIN
    UPDATE sessions SET version = version + 1 WHERE user_id IN (OLD.id, NEW.id);
END;

-- INSERT OR REPLACE fires no update trigger, and a delete trigger only where recursive triggers are
-- on.
CREATE TRIGGER users_replace BEFORE INSERT ON users
BEGIN
    UPDATE sessions SET version = version + 1 WHERE user_id IN (
        SELECT id FROM users WHERE id = NEW.id OR email = NEW.email OR username = NEW.username);
END;
CREATE TRIGGER users_replace_others BEFORE UPDATE OF id, email, username ON users
BEGIN
    UPDATE sessions SET version = version + 1 WHERE user_id IN (
        SELECT id FROM users WHERE id <> OLD.id
            AND (id = NEW.id OR email = NEW.email OR username = NEW.username));
END;

-- The foreign key does this only where it is switched on, which the sqlite3 shell does not do.
CREATE TRIGGER users_delete_sessions AFTER DELETE ON users
BEGIN
    DELETE FROM sessions WHERE user_id = OLD.id;
END;

-- An account that is switched off has no sessions any more: it ends them for good, and those that are
-- added while it is off have ended from the start. Switched on again, it needs a new login.

DROP TRIGGER users_touch_sessions;
CREATE TRIGGER users_touch_sessions AFTER UPDATE ON users
WHEN NOT (OLD.is_active AND NOT NEW.is_active)
  AND (NEW.id IS NOT OLD.id OR NEW.email IS NOT OLD.email OR NEW.username IS NOT OLD.username
       OR NEW.is_active IS NOT OLD.is_active)
BEGIN
    UPDATE sessions SET version = version + 1 WHERE user_id IN (OLD.id, NEW.id);
END;

CREATE TRIGGER users_end_sessions AFTER UPDATE ON users WHEN OLD.is_active AND NOT NEW.is_active
BEGIN
    UPDATE sessions SET is_active = 0, version = version + 1,
            revoked_at = coalesce(revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE user_id IN (OLD.id, NEW.id);
END;

-- INSERT OR REPLACE fires no update trigger.
CREATE TRIGGER users_begin_inactive AFTER INSERT ON users WHEN NOT NEW.is_active
BEGIN
    UPDATE sessions SET is_active = 0,
            revoked_at = coalesce(revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE user_id = NEW.id;
END;

CREATE TRIGGER sessions_begin_inactive AFTER INSERT ON sessions
WHEN NEW.is_active AND EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT is_active)
BEGIN
    UPDATE sessions SET is_active = 0,
            revoked_at = coalesce(revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE id = NEW.id;
END;

CREATE TRIGGER sessions_become_inactive AFTER UPDATE OF user_id ON sessions
WHEN NEW.is_active AND NEW.user_id IS NOT OLD.user_id
  AND EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT is_active)
BEGIN
    UPDATE sessions SET is_active = 0,
            revoked_at = coalesce(revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE id = NEW.id;
END;

UPDATE sessions SET is_active = 0,
        revoked_at = coalesce(revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
    WHERE is_active AND user_id IN (SELECT id FROM users WHERE NOT is_active);

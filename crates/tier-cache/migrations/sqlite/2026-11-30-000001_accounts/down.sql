DROP TRIGGER users_end_sessions;
DROP TRIGGER users_begin_inactive;
DROP TRIGGER sessions_begin_inactive;
DROP TRIGGER sessions_become_inactive;
DROP TRIGGER users_touch_sessions;
CREATE TRIGGER users_touch_sessions AFTER UPDATE ON users
WHEN NEW.id IS NOT OLD.id
  OR NEW.email IS NOT OLD.email OR NEW.username IS NOT OLD.username OR NEW.is_active IS NOT OLD.is_active
BEGIN
    UPDATE sessions SET version = version + 1 WHERE user_id IN (OLD.id, NEW.id);
END;

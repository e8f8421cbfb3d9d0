DROP TRIGGER session_history_stays;
DROP TRIGGER session_history_goes_on;
DROP TRIGGER session_history_begin;
DROP TRIGGER sessions_keep_rowid;
DROP TRIGGER session_tombstones_keep;
DROP TRIGGER session_tombstones_stay;
DROP TRIGGER sessions_use_id_once;
CREATE TRIGGER sessions_use_id_once BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM session_tombstones WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'a session of this id was deleted, and every node refuses the id: insert the session under a new one');
END;
ALTER TABLE session_history DROP COLUMN file;

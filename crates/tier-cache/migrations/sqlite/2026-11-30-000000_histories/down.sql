DROP TRIGGER sessions_keep_rowid;
DROP TRIGGER session_tombstones_keep;
DROP TRIGGER session_tombstones_stay;
ALTER TABLE session_history DROP COLUMN file;

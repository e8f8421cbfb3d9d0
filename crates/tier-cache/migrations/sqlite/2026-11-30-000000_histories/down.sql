DROP TRIGGER session_history_stays;
DROP TRIGGER session_history_goes_on;
DROP TRIGGER session_history_begin;
DROP TRIGGER sessions_keep_rowid;
DROP TRIGGER session_tombstones_keep;
DROP TRIGGER session_tombstones_stay;
ALTER TABLE session_history DROP COLUMN file;

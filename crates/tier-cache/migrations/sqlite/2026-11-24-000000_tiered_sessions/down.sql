DROP TRIGGER users_delete_sessions;
DROP VIEW session_now;
DROP TRIGGER users_touch_sessions;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE session_tombstones;
DROP TABLE session_history;

DROP TRIGGER users_touch_sessions;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE session_tombstones;
DROP TABLE session_history;

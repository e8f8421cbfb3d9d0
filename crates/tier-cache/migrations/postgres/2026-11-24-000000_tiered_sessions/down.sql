DROP VIEW session_now;
DROP TABLE sessions, session_users, users, session_tombstones, session_history;
DROP FUNCTION session_mark, sessions_number_change, sessions_number_late_change, sessions_leave_tombstone, sessions_leave_tombstones, users_touch_sessions, sessions_notify, sessions_renumber;

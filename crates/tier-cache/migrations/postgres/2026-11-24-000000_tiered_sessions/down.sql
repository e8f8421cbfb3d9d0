DROP VIEW session_now;
DROP TABLE sessions, session_users, users, session_tombstones, session_history;
DROP FUNCTION session_mark, session_server, session_lineage, session_history_name_server, sessions_number_change, sessions_number_late_change, sessions_leave_tombstone, sessions_leave_tombstones, users_touch_sessions, sessions_notify, sessions_prune_turn, sessions_renumber;

DROP VIEW session_now;
DROP TRIGGER sessions_notify ON session_history;
DROP TRIGGER session_history_begin ON session_history;
DROP TRIGGER sessions_truncated ON sessions;
DROP TRIGGER session_tombstones_stay ON session_tombstones;
DROP TRIGGER users_delete_sessions ON users;
DROP FUNCTION session_history_begin, sessions_begin_lineage, sessions_mend, sessions_install_triggers, session_triggers, session_tombstones_stay, users_delete_sessions, session_moved, session_horizon, session_objects, session_files;
DROP TABLE session_crash_marker;

-- From here on as the migration before has it.

CREATE FUNCTION session_server() RETURNS text
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    system text;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    BEGIN
        SELECT system_identifier INTO system FROM pg_control_system();
    EXCEPTION WHEN insufficient_privilege THEN
        system := 'unknown';
    END;
    RETURN concat_ws('/', system, left(pg_walfile_name(pg_current_wal_lsn()), 8),
                     (SELECT oid FROM pg_database WHERE datname = current_database()));
END $$;

ALTER TABLE session_history DROP COLUMN started, DROP COLUMN timeline, DROP COLUMN files, DROP COLUMN objects, ADD COLUMN server text;
CREATE FUNCTION session_history_name_server() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.server := session_server();
    RETURN NEW;
END $$;
CREATE TRIGGER session_history_name_server BEFORE INSERT OR UPDATE OF lineage ON session_history
    FOR EACH ROW EXECUTE FUNCTION session_history_name_server();
UPDATE session_history SET lineage = session_lineage();
ALTER TABLE session_history ALTER COLUMN server SET NOT NULL;

CREATE VIEW session_now AS
    SELECT session_mark() AS mark, now() AS wall, lineage, coalesce(server <> session_server(), false) AS moved
    FROM session_history;

ALTER FUNCTION sessions_truncated() RENAME TO sessions_leave_tombstones;
CREATE OR REPLACE FUNCTION sessions_leave_tombstones() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO session_tombstones (id, mark)
        SELECT id, pg_current_xact_id()::text::bigint FROM sessions ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_leave_tombstones BEFORE TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION sessions_leave_tombstones();
ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_leave_tombstones;

CREATE OR REPLACE FUNCTION users_touch_sessions() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO session_users AS known (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET changes = known.changes + 1;
    -- In the order in which everybody locks many.
    PERFORM 1 FROM sessions WHERE user_id = NEW.id ORDER BY id FOR UPDATE;
    UPDATE sessions SET version = version + 1 WHERE user_id = NEW.id;
    RETURN NULL;
END $$;
DROP TRIGGER users_touch_sessions ON users;
CREATE TRIGGER users_touch_sessions AFTER UPDATE ON users
    FOR EACH ROW WHEN ((OLD.email, OLD.username, OLD.is_active) IS DISTINCT FROM (NEW.email, NEW.username, NEW.is_active))
    EXECUTE FUNCTION users_touch_sessions();
ALTER TABLE users ENABLE ALWAYS TRIGGER users_touch_sessions;

CREATE OR REPLACE FUNCTION sessions_renumber() RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE sessions SET version = version + 1;
    DELETE FROM session_tombstones;
    UPDATE session_history SET tombstones_since = pg_current_xact_id()::text::bigint, lineage = session_lineage();
END $$;

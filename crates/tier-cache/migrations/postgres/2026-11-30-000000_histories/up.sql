-- Notices every history that goes back: crashes that lose commits, restores in place, copies.
--
-- A lineage belongs to one run of one server on one set of tables. session_history remembers which.
-- The feed compares that with what it finds (session_moved), in the snapshot in which it asks for
-- changes. The first node that finds a difference begins a new lineage (sessions_begin_lineage).

DROP VIEW session_now;
DROP TRIGGER session_history_name_server ON session_history;
DROP FUNCTION session_history_name_server, session_server;

-- What a dump of the former release leaves that is restored over these tables.
DROP TABLE IF EXISTS session_crash_marker;
DROP FUNCTION IF EXISTS session_history_begin, sessions_begin_lineage, sessions_mend, sessions_install_triggers,
    session_triggers, session_tombstones_stay, sessions_truncated, users_delete_sessions, session_moved,
    session_horizon, session_objects, session_files CASCADE;

-- started   when the server was started on which the lineage began
-- timeline  the server's timeline; a promoted standby is on a later one
-- files     see session_files
-- objects   see session_objects
ALTER TABLE session_history
    DROP COLUMN server,
    ADD COLUMN started timestamptz,
    ADD COLUMN timeline integer,
    ADD COLUMN files text,
    ADD COLUMN objects text;

-- Holds the lineage until the server crashes. PostgreSQL empties unlogged tables in each crash recovery,
-- also where only one backend was killed and neither start time nor timeline changes. A clean restart
-- keeps them, and standbys never have their rows.
CREATE UNLOGGED TABLE session_crash_marker (lineage bigint NOT NULL);

-- Names the database and the files of the tables that loads read: one that was restored, swapped or
-- truncated has another file. Cheap enough for each load, since it searches no table.
CREATE FUNCTION session_files() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pg_relation_filepath(to_regclass('sessions')) || ' ' || pg_relation_filepath(to_regclass('users'))
$$;

-- Names what else the numbering of changes rests on: the tombstones' file, the crash marker, and the
-- triggers with their functions. A trigger that was switched off and on again has another xmin. NULL if a
-- trigger is missing or does not fire for all roles, so that no lineage rests on that, however it began.
CREATE FUNCTION session_objects() RETURNS text
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    tables oid[] := ARRAY[to_regclass('sessions'), to_regclass('users'), to_regclass('session_tombstones')];
BEGIN
    IF EXISTS (SELECT FROM session_triggers() wanted WHERE NOT EXISTS (SELECT FROM pg_trigger
            WHERE tgrelid = to_regclass(wanted.of_table) AND tgname = wanted.name AND tgenabled = 'A')) THEN
        RETURN NULL;
    END IF;
    RETURN concat_ws(' ',
        pg_relation_filepath(to_regclass('session_tombstones')),
        (SELECT relpersistence FROM pg_class WHERE oid = to_regclass('session_crash_marker')),
        (SELECT string_agg(concat_ws(':', t.oid, t.xmin, t.tgenabled, f.oid, f.xmin), ' ' ORDER BY t.oid)
            FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
            WHERE t.tgrelid = ANY (tables) AND NOT t.tgisinternal));
END $$;

-- No change that this snapshot shows is numbered at or above this, unless it was numbered by another
-- server and came here in a dump.
CREATE FUNCTION session_horizon() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint $$;

-- Says why this database may lack something that its lineage had; NULL if it has all of it.
CREATE FUNCTION session_moved() RETURNS text
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    history session_history;
BEGIN
    SELECT * INTO history FROM session_history;
    IF NOT FOUND THEN
        RETURN 'session_history has no row';
    END IF;
    IF pg_is_in_recovery() THEN
        -- A standby shows what its primary wrote. It cannot read the marker.
        IF (SELECT timeline_id FROM pg_control_checkpoint()) > history.timeline THEN
            RETURN 'this standby follows another server';
        END IF;
        RETURN NULL;
    END IF;
    RETURN CASE
        WHEN history.started IS DISTINCT FROM pg_postmaster_start_time()
            THEN 'the server was started again, or another server took over'
        WHEN NOT EXISTS (SELECT FROM session_crash_marker WHERE lineage = history.lineage)
            THEN 'the server recovered from a crash'
        WHEN history.files IS DISTINCT FROM session_files()
                OR (history.objects = session_objects()) IS NOT TRUE
            THEN 'tables or triggers were restored, replaced, emptied, rewritten or switched off'
        WHEN history.tombstones_since > session_mark()
            THEN 'session_history.tombstones_since was in the future'
        WHEN row_security_active('sessions') OR row_security_active('users')
                OR row_security_active('session_tombstones')
            THEN 'row security hides rows'
    END;
END $$;

-- The mark of the snapshot, its lineage and the database's clock. A database that has moved shows a
-- lineage that no node follows, so that no node believes the rows read from it. (Where only the crash
-- marker or the triggers changed, the feed alone notices, so that a load pays for no more than comparisons.)
CREATE VIEW session_now AS
    SELECT session_mark() AS mark, now() AS wall,
        CASE
            WHEN started = pg_postmaster_start_time() AND files = session_files() THEN lineage
            WHEN session_moved() IS NULL THEN lineage
            ELSE ~lineage
        END AS lineage,
        session_moved() IS NOT NULL AS moved
    FROM session_history LIMIT 1;

-- Whoever writes a lineage begins a new one: by hand, by a restored dump, by sessions_begin_lineage.
-- The row describes the server and the tables as they are now. Tombstones of sessions that were deleted
-- before are void, since no record of the new lineage holds those sessions.
CREATE FUNCTION session_history_begin() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' AND EXISTS (SELECT FROM session_history) THEN
        -- A dump that is restored over what is there.
        UPDATE session_history SET lineage = NEW.lineage;
        RETURN NULL;
    END IF;
    NEW.lineage := session_lineage();
    -- Not this transaction's own number: others that are still open have lower ones.
    NEW.tombstones_since := session_mark();
    NEW.started := pg_postmaster_start_time();
    NEW.timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    NEW.files := session_files();
    NEW.objects := session_objects();
    DELETE FROM session_crash_marker;
    INSERT INTO session_crash_marker VALUES (NEW.lineage);
    RETURN NEW;
END $$;

-- The file of an emptied table is another, so the feed begins a new lineage in any case. This does it
-- at once, and removes the tombstones, which would refuse the sessions of a dump.
CREATE OR REPLACE FUNCTION sessions_leave_tombstones() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Above each that can be seen, so that it may go.
    UPDATE session_history
        SET tombstones_since = greatest(pg_current_xact_id()::text::bigint + 1, session_horizon());
    DELETE FROM session_tombstones;
    UPDATE session_history SET lineage = lineage;
    RETURN NULL;
END $$;
ALTER FUNCTION sessions_leave_tombstones() RENAME TO sessions_truncated;

-- A tombstone that nodes may still have to hear of stays, even in the transaction that made it.
CREATE FUNCTION session_tombstones_stay() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' AND (
        OLD.mark < (SELECT tombstones_since FROM session_history)
        -- Numbered by another server, from whose dump it comes.
        OR (OLD.mark >= session_horizon() AND OLD.mark <> pg_current_xact_id()::text::bigint))
    THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'nodes may not have heard yet that session % was deleted: leave its row in session_tombstones to pruning', OLD.id;
END $$;

-- The user's summary is part of every head of the user's sessions. With another id the user has left
-- the sessions of the old one, if no foreign key holds them together (session_replication_role).
CREATE OR REPLACE FUNCTION users_touch_sessions() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO session_users AS known (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET changes = known.changes + 1;
    -- In the order in which everybody locks many.
    PERFORM 1 FROM sessions WHERE user_id IN (OLD.id, NEW.id) ORDER BY id FOR UPDATE;
    UPDATE sessions SET version = version + 1 WHERE user_id IN (OLD.id, NEW.id);
    RETURN NULL;
END $$;

-- The foreign key deletes a user's sessions only for roles whose changes are not replicated.
CREATE FUNCTION users_delete_sessions() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM 1 FROM sessions WHERE user_id = OLD.id ORDER BY id FOR UPDATE;
    DELETE FROM sessions WHERE user_id = OLD.id;
    DELETE FROM session_users WHERE user_id = OLD.id;
    RETURN NULL;
END $$;

-- Makes the triggers as they have to be, whatever there is of them: a restore or a swapped table may
-- have lost them. They fire for every role, ENABLE ALWAYS, also for replication and bulk loaders.
CREATE FUNCTION sessions_install_triggers() RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT SET client_min_messages TO warning SET lock_timeout TO '100ms' AS $$
DECLARE
    trigger record;
BEGIN
    -- All at once, and never for long: nodes that read these tables in another order would wait for each other
    -- with this.
    FOR try IN 1..200 LOOP
        BEGIN
            LOCK TABLE sessions, session_tombstones, session_history, users IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF try = 200 THEN
                RAISE EXCEPTION 'other transactions keep the tables locked: end them, or try again';
            END IF;
            PERFORM pg_sleep(random() / 10);
        END;
    END LOOP;
    FOR trigger IN SELECT * FROM session_triggers() LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I', trigger.name, trigger.of_table);
        EXECUTE format('CREATE TRIGGER %I %s', trigger.name, trigger.definition);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', trigger.of_table, trigger.name);
    END LOOP;
END $$;

CREATE FUNCTION session_triggers() RETURNS TABLE (of_table text, name text, definition text)
    LANGUAGE sql IMMUTABLE AS $$
    SELECT * FROM (VALUES
        ('sessions', 'sessions_number_change',
         'BEFORE INSERT OR UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION sessions_number_change()'),
        ('sessions', 'sessions_number_late_change',
         'AFTER UPDATE ON sessions FOR EACH ROW WHEN (NEW.version = OLD.version AND
            (NEW.user_id, NEW.is_active, NEW.revoked_at, NEW.expires_at, NEW.access_jti,
             NEW.refresh_token_hash, NEW.ip, NEW.user_agent, NEW.label, NEW.data,
             NEW.authenticated_at, NEW.assurance, NEW.idle_seconds)
            IS DISTINCT FROM
            (OLD.user_id, OLD.is_active, OLD.revoked_at, OLD.expires_at, OLD.access_jti,
             OLD.refresh_token_hash, OLD.ip, OLD.user_agent, OLD.label, OLD.data,
             OLD.authenticated_at, OLD.assurance, OLD.idle_seconds))
            EXECUTE FUNCTION sessions_number_late_change()'),
        ('sessions', 'sessions_leave_tombstone',
         'AFTER DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION sessions_leave_tombstone()'),
        ('sessions', 'sessions_truncated',
         'AFTER TRUNCATE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION sessions_truncated()'),
        ('sessions', 'sessions_notify',
         'AFTER UPDATE ON sessions FOR EACH ROW WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION sessions_notify()'),
        ('session_tombstones', 'sessions_notify',
         'AFTER INSERT ON session_tombstones FOR EACH ROW EXECUTE FUNCTION sessions_notify()'),
        ('session_tombstones', 'session_tombstones_stay',
         'BEFORE UPDATE OR DELETE ON session_tombstones FOR EACH ROW EXECUTE FUNCTION session_tombstones_stay()'),
        ('session_history', 'session_history_begin',
         'BEFORE INSERT OR UPDATE OF lineage ON session_history FOR EACH ROW EXECUTE FUNCTION session_history_begin()'),
        ('session_history', 'sessions_notify',
         'AFTER INSERT OR UPDATE OF lineage ON session_history FOR EACH ROW EXECUTE FUNCTION sessions_notify()'),
        ('users', 'users_touch_sessions',
         'AFTER UPDATE ON users FOR EACH ROW WHEN (
            (OLD.id, OLD.email, OLD.username, OLD.is_active) IS DISTINCT FROM (NEW.id, NEW.email, NEW.username, NEW.is_active))
            EXECUTE FUNCTION users_touch_sessions()'),
        ('users', 'users_delete_sessions',
         'AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION users_delete_sessions()')
    ) AS all_of_them $$;

-- Says what keeps changes from being numbered, and how to mend it; NULL if nothing does. Mends by itself
-- what `ENABLE TRIGGER ALL` leaves, as dumps of data alone run it: triggers that do not fire for all roles.
CREATE FUNCTION sessions_mend() RETURNS text
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wanted record;
    present "char";
BEGIN
    FOR wanted IN SELECT * FROM session_triggers() LOOP
        SELECT tgenabled INTO present FROM pg_trigger
            WHERE tgrelid = to_regclass(wanted.of_table) AND tgname = wanted.name;
        IF NOT FOUND THEN
            RETURN format('table %s has no trigger %s: run SELECT sessions_install_triggers()', wanted.of_table, wanted.name);
        ELSIF present = 'D' THEN
            RETURN format('the trigger %2$s is switched off: run ALTER TABLE %1$s ENABLE ALWAYS TRIGGER %2$s', wanted.of_table, wanted.name);
        ELSIF present <> 'A' THEN
            BEGIN
                -- A writer that is open for long shall not have all others queue behind this.
                PERFORM set_config('lock_timeout', '100ms', true);
                EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', wanted.of_table, wanted.name);
            EXCEPTION
                WHEN insufficient_privilege THEN
                    RETURN format('the trigger %2$s does not fire for all roles: as the table''s owner run ALTER TABLE %1$s ENABLE ALWAYS TRIGGER %2$s', wanted.of_table, wanted.name);
                WHEN lock_not_available THEN
                    RETURN format('the trigger %2$s does not fire for all roles; this is mended as soon as no transaction keeps table %1$s locked', wanted.of_table, wanted.name);
            END;
        END IF;
    END LOOP;
    IF (SELECT relpersistence FROM pg_class WHERE oid = to_regclass('session_crash_marker')) IS DISTINCT FROM 'u' THEN
        RETURN 'session_crash_marker must be emptied by a crash: run ALTER TABLE session_crash_marker SET UNLOGGED';
    END IF;
    IF row_security_active('sessions') OR row_security_active('users') OR row_security_active('session_tombstones') THEN
        RETURN format('row security hides rows from the role %1$s: run ALTER ROLE %1$s BYPASSRLS, or switch row security off for sessions, users and session_tombstones', current_user);
    END IF;
    RETURN NULL;
END $$;

-- Begins a new lineage, after which no node believes what was cached before. Nothing waits for it but
-- pruning, and no open transaction is in its way. With `lost` only if that is still the present one, so
-- that of several nodes one does it. Returns NULL, or why it cannot be done and what to do.
CREATE FUNCTION sessions_begin_lineage(lost bigint DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    fault text;
BEGIN
    LOCK TABLE session_history IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM session_history WHERE lineage <> lost) THEN
        RETURN NULL;
    END IF;
    fault := sessions_mend();
    IF fault IS NULL THEN
        -- See session_history_begin.
        INSERT INTO session_history (lineage, tombstones_since) VALUES (0, 0);
    END IF;
    RETURN fault;
END $$;

-- The former name of sessions_begin_lineage: it numbers nothing any more.
CREATE OR REPLACE FUNCTION sessions_renumber() RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    fault text := sessions_begin_lineage();
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault;
    END IF;
END $$;

DROP TRIGGER sessions_leave_tombstones ON sessions;
SELECT sessions_install_triggers();
SELECT sessions_begin_lineage();

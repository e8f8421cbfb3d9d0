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

CREATE OR REPLACE FUNCTION sessions_number_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.id <> OLD.id THEN
            RAISE EXCEPTION 'sessions.id is a name and never changes: insert a new session and revoke the old one';
        END IF;
        -- A new version number written by hand asks for a bump, as the users trigger does.
        IF NOT (NEW.version, NEW.user_id, NEW.is_active, NEW.revoked_at, NEW.expires_at, NEW.access_jti,
                NEW.refresh_token_hash, NEW.ip, NEW.user_agent, NEW.label, NEW.data,
                NEW.authenticated_at, NEW.assurance, NEW.idle_seconds)
           IS DISTINCT FROM
               (OLD.version, OLD.user_id, OLD.is_active, OLD.revoked_at, OLD.expires_at, OLD.access_jti,
                OLD.refresh_token_hash, OLD.ip, OLD.user_agent, OLD.label, OLD.data,
                OLD.authenticated_at, OLD.assurance, OLD.idle_seconds)
        THEN
            NEW.changed_at_mark := OLD.changed_at_mark;
            RETURN NEW;
        END IF;
        NEW.version := OLD.version + 1;
    ELSE
        IF EXISTS (SELECT FROM session_tombstones WHERE id = NEW.id) THEN
            RAISE EXCEPTION 'session % was deleted, and every node refuses the id: insert the session under a new one', NEW.id;
        END IF;
        NEW.version := 1;
    END IF;
    -- A change of the user that is still uncommitted does not see this session and would not
    -- touch it; so it goes first, or waits. (Stronger than the foreign key's own lock; not FOR
    -- SHARE, which two logins that then update their user would deadlock on.)
    IF NEW.user_id IS NOT NULL AND (TG_OP = 'INSERT' OR NEW.user_id IS DISTINCT FROM OLD.user_id) THEN
        PERFORM 1 FROM users WHERE id = NEW.user_id FOR NO KEY UPDATE;
        -- One whose snapshot is older (REPEATABLE READ) would not see the session even after
        -- waiting. The lock leaves no trace to it; this does, so that it fails and is tried again.
        INSERT INTO session_users AS known (user_id) VALUES (NEW.user_id)
            ON CONFLICT (user_id) DO UPDATE SET changes = known.changes + 1;
    END IF;
    NEW.changed_at_mark := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;

SELECT sessions_begin_lineage();

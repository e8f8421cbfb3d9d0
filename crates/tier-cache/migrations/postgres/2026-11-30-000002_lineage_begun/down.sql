CREATE OR REPLACE FUNCTION session_history_begin() RETURNS trigger
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

ALTER TABLE session_history DROP COLUMN begun;
SELECT sessions_begin_lineage();

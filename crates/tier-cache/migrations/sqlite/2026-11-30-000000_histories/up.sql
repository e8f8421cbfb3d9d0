-- Notices every history that goes back: a file that was replaced, or restored in place.
--
-- A lineage belongs to one file. session_history remembers which; the feed compares that with the file
-- that it reads, and begins a new lineage where they differ.

-- Names the file, by what the file system says of it, and the version of its schema, which `.restore`
-- raises, and VACUUM and changes of the schema too. NULL, at first: unknown.
ALTER TABLE session_history ADD COLUMN file TEXT;

-- A tombstone that nodes may still have to hear of stays, even in the transaction that made it.
CREATE TRIGGER session_tombstones_stay BEFORE DELETE ON session_tombstones
WHEN OLD.mark >= (SELECT tombstones_since FROM session_history) AND OLD.mark <= (SELECT mark FROM session_history)
BEGIN
    SELECT RAISE(ABORT, 'nodes may not have heard yet that this session was deleted: leave its row in session_tombstones to pruning');
END;

CREATE TRIGGER session_tombstones_keep BEFORE UPDATE ON session_tombstones
BEGIN
    SELECT RAISE(ABORT, 'a row of session_tombstones never changes');
END;

-- UPDATE OR REPLACE of the rowid would drop the other row without firing its delete trigger.
CREATE TRIGGER sessions_keep_rowid BEFORE UPDATE ON sessions WHEN NEW.rowid IS NOT OLD.rowid
BEGIN
    SELECT RAISE(ABORT, 'the rowid of a session never changes');
END;

-- A session that was deleted before the lineage began may be put back: no cache holds it any more.
DROP TRIGGER sessions_use_id_once;
CREATE TRIGGER sessions_use_id_once BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM session_tombstones
             WHERE id = NEW.id AND mark >= (SELECT tombstones_since FROM session_history))
BEGIN
    SELECT RAISE(ABORT, 'a session of this id was deleted, and every node refuses the id: insert the session under a new one; or, to put a backup back, run `sessions invalidate-caches` first');
END;

-- Whoever puts back what names the lineage begins a new one: rows that are copied from a backup by SQL
-- bring the numbers of an earlier time. Marks never go back.
CREATE TRIGGER session_history_begin AFTER INSERT ON session_history
BEGIN
    UPDATE session_history SET lineage = random(), mark = max(NEW.mark,
        coalesce((SELECT max(changed_at_mark) FROM sessions), 0), coalesce((SELECT max(mark) FROM session_tombstones), 0)) + 1;
END;
CREATE TRIGGER session_history_goes_on AFTER UPDATE OF mark ON session_history WHEN NEW.mark < OLD.mark
BEGIN
    UPDATE session_history SET lineage = random(), mark = OLD.mark + 1;
END;
CREATE TRIGGER session_history_stays BEFORE DELETE ON session_history
BEGIN
    SELECT RAISE(ABORT, 'the row of session_history names the lineage of all caches: leave it');
END;

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

-- When the lineage began. What was written before may be from a backup, so a refresh token that is not
-- known here may be newer than that, and is no sign of theft.
ALTER TABLE session_history ADD COLUMN begun INTEGER;
UPDATE session_history SET begun = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER);

CREATE TRIGGER session_history_begun AFTER UPDATE OF lineage ON session_history WHEN NEW.lineage IS NOT OLD.lineage
BEGIN
    UPDATE session_history SET begun = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER);
END;

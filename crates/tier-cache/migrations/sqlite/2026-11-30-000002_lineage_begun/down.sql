DROP TRIGGER session_history_begun;
ALTER TABLE session_history DROP COLUMN begun;

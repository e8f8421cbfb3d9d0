#!/usr/bin/env bash
# A restore of data alone leaves ENABLE ALWAYS triggers as plain ones.
#
# What one expects: `pg_dump --data-only --disable-triggers` switches triggers off round the data, and leaves them as
# they were.
# What happens (PostgreSQL 16.2): its script ends with ENABLE TRIGGER ALL. That makes plain triggers (tgenabled O) of
# those that fired for all roles (A): under session_replication_role = replica, as logical replication and bulk
# loaders use it, they no longer fire. Triggers that were off before (D) are on afterwards. Nothing says so.
# Seen: before "A D", after "O O"; an insert under the replica role is counted before, and not after.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pgserver==0.1.4
cat >"$folder/finding.py" <<'PYTHON'
import os, subprocess, sys
import pgserver

server = pgserver.get_server(sys.argv[1])
programs = os.path.join(os.path.dirname(pgserver.__file__), "pginstall", "bin")

def sql(text):
    run = [os.path.join(programs, "psql"), server.get_uri(), "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    return subprocess.run(run, input=text, text=True, check=True, capture_output=True).stdout.split()

def states():
    return sql("SELECT tgenabled FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY tgname")

def counted():
    sql("SET session_replication_role = replica; INSERT INTO t VALUES (1)")
    return sql("SELECT count(*) FROM counted")

try:
    print(sql("SHOW server_version"))
    sql("""
        CREATE TABLE t (a int);
        CREATE TABLE counted (a int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO counted VALUES (NEW.a); RETURN NEW; END $$;
        CREATE TRIGGER a_always BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER b_off AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE t ENABLE ALWAYS TRIGGER a_always;
        ALTER TABLE t DISABLE TRIGGER b_off;
    """)
    before = (states(), counted())
    dump = subprocess.run(
        [os.path.join(programs, "pg_dump"), "--data-only", "--disable-triggers", "--table=t", server.get_uri()],
        text=True, check=True, capture_output=True).stdout
    sql("TRUNCATE t, counted")
    sql(dump)
    after = (states(), counted())
    print("before:", before, "after:", after)
    assert before == (["A", "D"], ["1"]), before
    assert after == (["O", "O"], ["0"]), after
finally:
    server.cleanup()
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/finding.py" "$folder/data"

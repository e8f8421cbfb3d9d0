#!/usr/bin/env bash
# CREATE TABLE IF NOT EXISTS fails for a table that exists, if the role may not create one.
#
# What one expects: the table is there, so the statement does nothing but a notice.
# What happens (PostgreSQL 16.2): the right to create in the schema is looked at first. A role that may read and write
# the table is told "permission denied for schema public". Since PostgreSQL 15 that is every role but the owner. So a
# migration tool that makes its table of versions in this way at each start keeps a service from starting although
# nothing is to migrate. CREATE INDEX IF NOT EXISTS looks at the table's owner first, and fails in the same way.
# CREATE SCHEMA IF NOT EXISTS does too, where the role may not create in the database.
# Seen: three refusals for objects that exist, and to_regclass finds the table for the same role.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pgserver==0.1.4
cat >"$folder/finding.py" <<'PYTHON'
import os, subprocess, sys
import pgserver

server = pgserver.get_server(sys.argv[1])
psql = os.path.join(os.path.dirname(pgserver.__file__), "pginstall", "bin", "psql")

def ask(text):
    run = [psql, server.get_uri(), "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    done = subprocess.run(run, input=text, text=True, capture_output=True)
    return (done.stdout + done.stderr).strip()

try:
    print(ask("SHOW server_version"))
    print(ask("""
        CREATE SCHEMA theirs;
        CREATE TABLE versions (version text);
        CREATE INDEX versions_idx ON versions (version);
        CREATE ROLE app;
        GRANT SELECT, INSERT ON versions TO app;
    """))
    as_app = "SET ROLE app; "
    assert ask(as_app + "SELECT to_regclass('versions')") == "versions"
    for statement, refusal in [
        ("CREATE TABLE IF NOT EXISTS versions (version text)", "permission denied for schema public"),
        ("CREATE INDEX IF NOT EXISTS versions_idx ON versions (version)", "must be owner of table versions"),
        ("CREATE SCHEMA IF NOT EXISTS theirs", "permission denied for database"),
    ]:
        told = ask(as_app + statement)
        print(statement, "->", told)
        assert refusal in told, told
finally:
    server.cleanup()
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/finding.py" "$folder/data"

#!/usr/bin/env bash
# A connection that does nothing keeps exclusive locking mode away, in WAL mode and not otherwise; and what
# VACUUM INTO makes is not in WAL mode.
#
# What one expects: a connection with no transaction open holds no lock, so another one may take the file for itself
# (PRAGMA locking_mode = EXCLUSIVE, BEGIN EXCLUSIVE), in whatever journal mode. And a copy has the journal mode of what
# it is a copy of, whichever of SQLite's own ways made it.
# What happens (SQLite 3.46.1): in WAL mode a connection that has read once holds a shared lock until it is closed, so
# the other is refused ("database is locked"); in the rollback modes it holds none. The backup API copies the mode,
# VACUUM INTO makes a file in mode delete. So whether an idle shell is in the way depends on how a backup was made.
# Seen: wal refused, delete granted; backup wal, VACUUM INTO delete.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.46.1.0
cat >"$folder/finding.py" <<'PYTHON'
import os, subprocess, sys
import apsw

folder = sys.argv[1]

def database(mode):
    path = os.path.join(folder, f"{mode}.db")
    connection = apsw.Connection(path)
    connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
    connection.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    connection.close()
    return path

# In a process of its own, as a shell would be.
IDLE = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("SELECT a FROM t").fetchall()
assert not connection.in_transaction
print("idle", flush=True)
sys.stdin.read()
"""

def alone(mode):
    path = database(mode)
    idle = subprocess.Popen([sys.executable, "-c", IDLE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert idle.stdout.readline() == "idle\n"
    connection = apsw.Connection(path)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        connection.execute("BEGIN EXCLUSIVE; UPDATE t SET a = 2; COMMIT")
        return "granted"
    except apsw.BusyError as error:
        return f"refused: {error}"
    finally:
        connection.close()
        idle.stdin.close()
        idle.wait()

def mode_of(path):
    return apsw.Connection(path).execute("PRAGMA journal_mode").fetchall()[0][0]

print(apsw.sqlite_lib_version())
seen = {mode: alone(mode) for mode in ("wal", "delete")}
source = apsw.Connection(os.path.join(folder, "wal.db"))
vacuumed, copied = (os.path.join(folder, name) for name in ("vacuumed.db", "copied.db"))
source.execute("VACUUM INTO ?", (vacuumed,))
with apsw.Connection(copied).backup("main", source, "main") as backup:
    backup.step()
modes = {"VACUUM INTO": mode_of(vacuumed), "backup": mode_of(copied)}
print(seen, modes)
assert seen["wal"].startswith("refused") and "locked" in seen["wal"], seen
assert seen["delete"] == "granted", seen
assert modes == {"VACUUM INTO": "delete", "backup": "wal"}, modes
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder"

#!/usr/bin/env bash
# A server that has recovered from a crash, and lost commits by it, says that it was started before the crash.
#
# What one expects: pg_postmaster_start_time() and the process id of the server tell whether it went through crash
# recovery, so that a client can compare them to know whether acknowledged commits may be gone.
# What happens (PostgreSQL 16.2, default restart_after_crash): where one backend dies by SIGKILL, as the kernel's
# out-of-memory killer does it, the same postmaster ends all others and recovers. Start time, process id and timeline
# stay. Commits acknowledged with synchronous_commit = off are gone; unlogged tables are empty, which is what tells.
# Seen: start time, process id and timeline equal; the unlogged row is gone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pgserver==0.1.4
cat >"$folder/finding.py" <<'PYTHON'
import os, signal, subprocess, sys, time
import pgserver

server = pgserver.get_server(sys.argv[1])
psql = os.path.join(os.path.dirname(pgserver.__file__), "pginstall", "bin", "psql")

def sql(text, check=True):
    run = [psql, server.get_uri(), "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    return subprocess.run(run, input=text, text=True, check=check, capture_output=True).stdout.strip()

def identity():
    with open(os.path.join(sys.argv[1], "postmaster.pid")) as file:
        process = file.readline().strip()
    return sql("SELECT pg_postmaster_start_time(), timeline_id FROM pg_control_checkpoint()"), process

try:
    print(sql("SHOW server_version"))
    sql("CREATE UNLOGGED TABLE marker (a int); INSERT INTO marker VALUES (1)")
    before = identity()
    victim = subprocess.Popen([psql, server.get_uri(), "-qAtX"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    victim.stdin.write("SELECT pg_backend_pid();\n")
    victim.stdin.flush()
    os.kill(int(victim.stdout.readline()), signal.SIGKILL)
    rows = ""
    for _ in range(300):
        rows = sql("SELECT count(*) FROM marker", check=False)
        if rows == "0":
            break
        time.sleep(0.1)
    after = identity()
    victim.stdin.close()
    victim.wait()
    print("before:", before, "after:", after, "rows in the unlogged table:", rows)
    assert after == before
    assert rows == "0", rows
finally:
    server.cleanup()
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/finding.py" "$folder/data"

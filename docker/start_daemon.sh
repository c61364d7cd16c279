#!/bin/sh
# Start a Docker daemon on a machine without systemd, and wait until it answers.
#
# Usage: docker/start_daemon.sh [LOG]     LOG defaults to /tmp/eklavya-dockerd.log
#
# Idempotent: a daemon that answers is left as it is. The daemon outlives this script and the terminal it was started
# from. Exit 0 means that `docker version` reached a daemon; otherwise one line on stderr says why not.
set -eu

log=${1:-/tmp/eklavya-dockerd.log}
deadline_s=60

say() { printf 'docker: %s\n' "$1"; }
fail() { printf 'docker: %s\n' "$1" >&2; exit 1; }

# The server's version is only known when a daemon answered, on DOCKER_HOST or the default socket.
answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

command -v docker >/dev/null 2>&1 || fail "the docker command is missing: install docker.io"
if answers; then
    say "a daemon already answers"
    exit 0
fi
[ -z "${DOCKER_HOST:-}" ] || fail "DOCKER_HOST=$DOCKER_HOST does not answer, and a remote daemon is not started from here"
command -v dockerd >/dev/null 2>&1 || fail "dockerd is missing: install docker.io"
[ "$(id -u)" -eq 0 ] || fail "starting dockerd needs root: run this script with sudo"

say "starting dockerd, log in $log"
# A session of its own: Ctrl-C in the caller's terminal, or its end, must not stop the daemon.
setsid dockerd >>"$log" 2>&1 </dev/null &
daemon=$!

waited=0
until answers; do
    # dockerd gone: the log's last line is its reason (setsid execs, so the id is the daemon's own).
    kill -0 "$daemon" 2>/dev/null || fail "dockerd stopped: $(tail -n 1 "$log")"
    [ "$waited" -lt "$deadline_s" ] || fail "dockerd does not answer after ${deadline_s} s, see $log"
    waited=$((waited + 1))
    sleep 1
done
say "the daemon answers after ${waited} s"

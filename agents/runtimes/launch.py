"""The last step before a sandbox's first process: run as a script, it becomes that process.

    python -I -S launch.py SETTINGS [ARGUMENT...]       SETTINGS is a JSON file, or - for stdin

Works in the process that its caller started, so that the caller's process id, pipes and signals are the
sandbox's own. In this order: detach if asked, open a session, leave a record (so that another process can
find this one), set limits, throw the environment away, and exec. Only the standard library is used and
nothing of Eklavya is imported: it starts in 20 ms, and `-I` keeps the caller's PYTHON* variables and
working directory out.

Exit code 125: the sandbox was killed in the meantime, or its process cannot be started; one line on stderr
says why.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

CANNOT_START = 125


def main(settings_path: str, arguments: list[str]) -> NoReturn:
    """Become the process that the settings describe. They are made by `agents.runtimes.processes.Launch`."""
    try:
        settings = _read_settings(settings_path)
        if settings["detach"]:
            _detach()
        _open_session()
        _leave_record(Path(settings["record"]))
        _set_limits(settings["limits"])
        _redirect(settings["log"])
        _become(settings, arguments)
    except OSError as error:
        os.write(2, f"sandbox: {error}\n".encode())
    sys.exit(CANNOT_START)


def _read_settings(path: str) -> dict[str, Any]:
    if path != "-":
        return dict(json.loads(Path(path).read_bytes()))
    settings = json.load(sys.stdin)
    # What follows must not read the rest of our stdin.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return dict(settings)


def _detach() -> None:
    """Return in a child that init adopts; this process ends when the child has called exec, or could not."""
    reader, writer = os.pipe()  # not inheritable: exec closes it
    if os.fork() == 0:
        os.close(reader)
        os.dup2(writer, 2, inheritable=False)
        return
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        problem = pipe.read()
    os.write(2, problem)
    os._exit(CANNOT_START if problem else 0)


def _open_session() -> None:
    # Refused to a process that leads its group already: then its caller has made the session.
    with suppress(PermissionError):
        os.setsid()
    os.umask(0o077)


def _leave_record(directory: Path) -> None:
    """Write down who we are; then, in this order, see whether the sandbox was killed.

    `kill` marks first and looks for records afterwards, so one of the two sees the other.
    """
    pid = os.getpid()
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    record = {
        "pid": pid,
        "start": int(stat[19]),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    with suppress(FileNotFoundError):  # the directory goes with the sandbox
        draft = directory / f"{pid}.draft"
        draft.write_text(json.dumps(record))
        draft.rename(directory / f"{pid}.process")
    if (directory / "killed").exists() or not directory.exists():
        raise ProcessLookupError(f"the sandbox {directory.name} was killed")


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    os.nice(5)  # the platform stays responsive under a busy agent
    with suppress(OSError):
        # When memory runs out the kernel takes an agent, not the database.
        Path("/proc/self/oom_score_adj").write_text("500")


def _redirect(log: str | None) -> None:
    if log is None:
        return
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 1)
    # The pipe to the waiting parent moves out of the way; exec closes it.
    keep = os.dup(2)
    os.set_inheritable(keep, False)
    os.dup2(target, 2)
    os.close(target)


def _become(settings: dict[str, Any], arguments: list[str]) -> NoReturn:
    inherited = {name: os.environ[name] for name in settings["inherit"] if name in os.environ}
    os.chdir(settings["cwd"])
    argv = [*settings["argv"], *arguments]
    # Python ignores these two, and what is ignored stays so through exec: `yes | head` would not end.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execve(argv[0], argv, {**inherited, **settings["env"]})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""First step of `make run` and `make test`: hand over to Python 3.11, whichever Python this is.

    python eklavya/bootstrap.py [--dev] [ARGUMENTS OF THE VENV'S PYTHON...]

Written so that every Python since 2.7 can read it, because its one job is to say a clear sentence to
those. What comes next is in services/venv.py.
"""
# ruff: noqa: UP031, RUF005  (the syntax is old on purpose)

import os
import subprocess
import sys

WANTED = (3, 11)
NAME = "python%d.%d" % WANTED
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NEXT = os.path.join(ROOT, "eklavya", "services", "venv.py")


def is_wanted(python):
    # type: (str) -> bool
    """True when this program is the wanted Python. Asked by running it: pyenv has shims for absent ones."""
    check = "import sys; sys.exit(sys.version_info[:2] != (%d, %d))" % WANTED
    try:
        with open(os.devnull, "w") as nowhere:
            return subprocess.call([python, "-c", check], stdout=nowhere, stderr=nowhere) == 0
    except OSError:
        return False


def candidates():
    # type: () -> list[str]
    """Where to look: this Python, the search path, and in the end the environment of last time."""
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = [os.path.join(directory, name) for name in (NAME, "python3") for directory in directories]
    return [sys.executable] + found + [os.path.join(ROOT, ".venv", "bin", "python")]


def main(arguments):
    # type: (list[str]) -> None
    """Replace this process by the right Python, or end with one line."""
    if sys.stderr.isatty() or not os.path.exists(os.path.join(ROOT, ".venv", "installed.json")):
        # what comes next may take seconds before it can say anything
        sys.stderr.write("Eklavya: looking for Python %d.%d and what is installed ...\n" % WANTED)
        sys.stderr.flush()
    for python in candidates():
        if os.access(python, os.X_OK) and is_wanted(python):
            # -I: this directory is not on its path, so no module of ours hides one of the library's
            os.execv(python, [python, "-I", NEXT] + arguments)
    version = ".".join(str(part) for part in sys.version_info[:2])
    sys.exit(
        "eklavya: needs Python %d.%d, and found only %s: install it " % (WANTED + (version,))
        + "(Debian 12: apt-get install python3 python3-venv) so that `%s` is on the PATH" % NAME
    )


if __name__ == "__main__":
    main(sys.argv[1:])

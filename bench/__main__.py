"""Run all benchmarks, one after the other, and print their ratios."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = (
    ("budget.py",),
    ("graphs.py",),
    ("graphs.py", "--crash"),
    ("gateway.py",),
    ("first_request.py", "--runtime", "local"),
    ("first_request.py", "--runtime", "docker"),
    ("line.py", "--runtime", "local"),
    ("line.py", "--runtime", "local", "--rounds", "1", "--projects", "10"),
)


def main() -> None:
    for script, *arguments in ALL:
        sys.stdout.write(f"\n== {script} {' '.join(arguments)}\n")
        sys.stdout.flush()
        subprocess.run([sys.executable, str(HERE / script), *arguments], check=False)


if __name__ == "__main__":
    main()

"""Projects' repositories with a small real application in them."""

import subprocess
from pathlib import Path

from agents.workspace.repository import Repository

APP = '''\
"""Counts its visitors in $DATA_DIR, over restarts too."""
import http.server, os, pathlib

DATA = pathlib.Path(os.environ["DATA_DIR"]) / "visits"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            return self.answer("well")
        visits = int(DATA.read_text()) + 1 if DATA.exists() else 1
        DATA.write_text(str(visits))
        self.answer(f"visit {visits} of {os.getpid()}")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
'''
MANIFEST = '[commands]\nstart = "exec python3 app.py"\n[health]\npath = "/health"\n'


def commit_files(repository: Repository, files: dict[str, str]) -> str:
    """Make the repository when needed and put a commit of just these files on main; returns its id."""
    repository.create()
    head = (
        f"commit refs/heads/main\ncommitter T <t@example.org> 1700000000 +0000\ndata 1\nx\nfrom {repository.head()}\n"
    )
    stream = f"feature done\n{head}deleteall\n".encode()
    for path, text in files.items():
        content = text.encode()
        stream += f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
    git("fast-import", "--quiet", cwd=repository.path, stdin=stream + b"done\n")
    return repository.head()


def git(*arguments: str, cwd: Path, stdin: bytes = b"") -> str:
    """Run git and return what it printed."""
    done = subprocess.run(["git", *arguments], cwd=cwd, input=stdin, capture_output=True, check=True)
    return done.stdout.decode().strip()

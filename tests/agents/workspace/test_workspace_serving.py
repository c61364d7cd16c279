"""Downloads, and the real git cloning over HTTP."""

import gzip
import io
import os
import subprocess
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agents.workspace.errors import BadName, BadRequest, GitFailed
from agents.workspace.serving import ADVERTISEMENT_TYPE, RESULT_TYPE


@pytest.fixture
def main(clone, deliver):
    clone.write("app/main.py", "print()\n")
    clone.write(".gitattributes", "app export-ignore\n")
    return deliver(clone)


def test_a_zip_holds_all_files(repository, main):
    data = io.BytesIO(b"".join(repository.archive(main, "zip", prefix="shop")))
    names = set(zipfile.ZipFile(data).namelist())
    assert {"shop/README.md", "shop/app/main.py"} <= names


def test_a_tar_holds_all_files(repository, main):
    data = io.BytesIO(b"".join(repository.archive(main, "tar.gz", prefix="shop")))
    with tarfile.open(fileobj=data, mode="r:gz") as archive:
        assert {"shop/README.md", "shop/app/main.py"} <= set(archive.getnames())


@pytest.mark.parametrize("prefix", ["", "../x", "/x", "a/b", "-x"])
def test_an_archive_below_an_odd_name_is_refused(repository, prefix):
    with pytest.raises(BadName):
        repository.archive(repository.head(), "zip", prefix=prefix)


def test_a_bundle_can_be_cloned(repository, main, tmp_path):
    (tmp_path / "project.bundle").write_bytes(b"".join(repository.bundle()))
    git("clone", "--quiet", tmp_path / "project.bundle", tmp_path / "cloned")
    assert git("-C", tmp_path / "cloned", "rev-parse", "HEAD") == main


def test_a_download_that_is_given_up_ends_its_process(repository, clone, collect):
    clone.write("big.bin", os.urandom(3_000_000))
    chunks = repository.archive(collect(clone), "zip")
    next(chunks)
    chunks.close()
    with pytest.raises(StopIteration):
        next(chunks)


def git(*args: object, version: int = 2, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-c", f"protocol.version={version}", *map(str, args)],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        check=check,
        timeout=30,
    )
    return done.stdout.decode().strip() or done.stderr.decode().strip()


@pytest.fixture
def url(repository):
    """A server of the two requests that `git clone` makes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            protocol = self.headers.get("Git-Protocol", "")
            self._answer(ADVERTISEMENT_TYPE, repository.upload_pack_advertise(protocol))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            gzipped = self.headers.get("Content-Encoding") == "gzip"
            self._answer(RESULT_TYPE, repository.upload_pack([body[:10], body[10:]], gzipped=gzipped))

        def _answer(self, content_type: str, chunks) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
            except GitFailed:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/project.git"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("version", [0, 2])
def test_git_clones_over_http(main, url, tmp_path, version):
    git("clone", "--quiet", url, tmp_path / "cloned", version=version)
    assert git("-C", tmp_path / "cloned", "rev-parse", "HEAD") == main
    assert (tmp_path / "cloned/app/main.py").exists()


def test_git_fetches_what_is_new(repository, main, url, start, deliver, tmp_path):
    git("clone", "--quiet", url, tmp_path / "cloned")
    later = start("later")
    for number in range(40):
        later.write("count.txt", f"{number}\n")
        later.commit(str(number))
    new = deliver(later)
    git("-C", tmp_path / "cloned", "pull", "--quiet")
    assert git("-C", tmp_path / "cloned", "rev-parse", "HEAD") == new


def test_only_main_is_listed(repository, main, url, start, collect):
    run = start("hidden")
    run.write("secret.txt")
    collect(run)
    refs = git("ls-remote", url).split()[1::2]
    assert refs == ["HEAD", "refs/heads/main"]


@pytest.mark.parametrize("version", [0, 2])
def test_a_hidden_commit_is_not_given_by_its_id(main, url, start, collect, tmp_path, version):
    run = start("hidden")
    run.write("secret.txt")
    commit = collect(run)
    git("init", "--quiet", tmp_path / "thief")
    said = git("-C", tmp_path / "thief", "fetch", url, commit, version=version, check=False)
    assert "not our ref" in said or "unadvertised" in said
    assert "commit" not in git("-C", tmp_path / "thief", "cat-file", "-t", commit, check=False).split()[:1]


def test_a_forged_want_of_a_hidden_commit_is_refused(repository, main, start, collect):
    run = start("hidden")
    run.write("secret.txt")
    want = f"want {collect(run)}\n"
    body = f"{len(want) + 4:04x}{want}00000009done\n".encode()
    with pytest.raises(GitFailed, match="not our ref"):
        b"".join(repository.upload_pack([body]))


def test_pushing_is_not_served(main, url, tmp_path):
    git("clone", "--quiet", url, tmp_path / "cloned")
    assert "fatal" in git("-C", tmp_path / "cloned", "push", url, "HEAD:refs/heads/other", check=False)


def test_a_body_that_is_no_gzip_is_refused(repository):
    with pytest.raises(BadRequest, match="not gzip"):
        b"".join(repository.upload_pack([b"0000"], gzipped=True))


def test_a_small_body_that_unpacks_to_a_large_one_is_refused(repository):
    body = gzip.compress(b"\0" * 20_000_000)
    with pytest.raises(BadRequest, match="at most"):
        b"".join(repository.upload_pack([body], gzipped=True))


def test_an_advertisement_begins_with_its_service(repository):
    assert b"".join(repository.upload_pack_advertise("version=2")).startswith(b"001e# service=git-upload-pack\n0000")

"""A repository on its way out: archives, bundles, and `git clone` over HTTP. Read-only; iterators of bytes."""

import re
import zlib
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from typing import Literal

from agents.workspace import names
from agents.workspace.errors import BadName, BadRequest
from agents.workspace.git import Git
from agents.workspace.merging import check_commit

ArchiveFormat = Literal["zip", "tar.gz"]

ADVERTISEMENT_TYPE = "application/x-git-upload-pack-advertisement"
REQUEST_TYPE = "application/x-git-upload-pack-request"
RESULT_TYPE = "application/x-git-upload-pack-result"

_PREFIX = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
# A request lists the commits that are wanted and those that are there: 50 bytes each.
_MAX_REQUEST_BYTES = 10_000_000
# Runs, checkpoints and bases are nobody's business outside. The setting goes with the command, not into the
# repository's file, because run clones and exports are made from such references.
_HIDING = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "transfer.hideRefs",
    "GIT_CONFIG_VALUE_0": names.PRIVATE,
}


def archive(git: Git, commit: str, *, form: ArchiveFormat, prefix: str) -> Iterator[bytes]:
    """The files of a commit in one file, below a directory named `prefix`. Raises UnknownCommit, BadName."""
    if not _PREFIX.fullmatch(prefix):
        raise BadName(f"not a name for a directory: {prefix!r}")
    return git.stream("archive", f"--format={form}", f"--prefix={prefix}/", check_commit(git, commit))


def bundle(git: Git) -> Iterator[bytes]:
    """main with its whole history in one file that `git clone` takes."""
    return git.stream("bundle", "create", "--quiet", "-", "HEAD", names.MAIN)


def upload_pack_advertise(git: Git, protocol: str = "") -> Iterator[bytes]:
    """The answer to GET …/info/refs?service=git-upload-pack, of type ADVERTISEMENT_TYPE.

    `protocol` is the request's Git-Protocol header, which asks and does not order. The answer is in version 0:
    under version 2 Git gives out every commit whose id is known, hidden or not.
    """
    yield b"001e# service=git-upload-pack\n0000"
    yield from _hiding(git).stream("upload-pack", "--strict", "--stateless-rpc", "--advertise-refs", git.git_dir)


def upload_pack(git: Git, body: Iterable[bytes], *, gzipped: bool = False) -> Iterator[bytes]:
    """The answer to POST …/git-upload-pack, of type RESULT_TYPE; `gzipped` when the body's Content-Encoding says so.

    Raises BadRequest for a body that is too large or no gzip; GitFailed in the middle for one that Git refuses.
    """
    with TemporaryFile() as request:
        taken = 0
        for chunk in _unzipped(body) if gzipped else body:
            taken += len(chunk)
            if taken > _MAX_REQUEST_BYTES:
                raise BadRequest(f"a request has at most {_MAX_REQUEST_BYTES} bytes")
            request.write(chunk)
        request.seek(0)
        yield from _hiding(git).stream("upload-pack", "--strict", "--stateless-rpc", git.git_dir, stdin=request)


def _hiding(git: Git) -> Git:
    return git.with_environment(_HIDING)


def _unzipped(body: Iterable[bytes]) -> Iterator[bytes]:
    """The body without gzip, in bounded pieces however well it was packed."""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        for chunk in body:
            while chunk:
                yield unzip.decompress(chunk, 1 << 16)
                chunk = unzip.unconsumed_tail
        yield unzip.flush()
    except zlib.error as exc:
        raise BadRequest("the request's body is not gzip") from exc

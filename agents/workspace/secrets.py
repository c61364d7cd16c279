"""Keys that a change would bring into the history for ever, and so into every delivery of it.

The patterns are those of detect-secrets, and our own where it has none; only such as name themselves, by a prefix
or a frame, because a guess by entropy would block honest work. Only its patterns are used: its settings are global,
its filters obey comments in the text that is judged (`pragma: allowlist secret`), its checks call the services that a
key is for. A finding says what and where, never the key.

Every new object between two commits is looked at, earlier commits and their messages included: what a later commit
removes is still delivered with the history.
"""

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector

from agents.workspace import names
from agents.workspace.collecting import changed_paths
from agents.workspace.errors import GitFailed, OutputTooLarge, SecretsUnscanned
from agents.workspace.git import TRANSFER_S, Git

MAX_FINDINGS = 20
# Shorter values are not compared: they can be guessed, and a refusal would confirm the guess.
MIN_KNOWN_CHARS = 20
_MAX_OBJECTS_BYTES = 100_000_000
# What lies around something that looks like the beginning of a key; the longest, a JSON Web Token, fits in.
_BEFORE, _AFTER = 256, 4096
_SURELY_SEEN = 2048
# A change made of nothing but such beginnings would take hours.
_MAX_PLACES = 20_000
_MAX_S = 60.0


# A private key is only one with key material after its first line: code may know how such a file begins.
_KEY_MATERIAL = re.compile(r"[\s\S]{0,400}?[A-Za-z0-9+/]{40}")
Check = Callable[[str, int, int], bool]


def _always(text: str, begin: int, end: int) -> bool:
    return True


def _is_access_key(text: str, begin: int, end: int) -> bool:
    """Whether it stands alone and is not one of the documentation's own examples, or a word in capitals."""
    secret, around = text[begin:end], text[max(begin - 1, 0) : begin] + text[end : end + 1]
    if len(secret) == 20 and (around.isalnum() or not any(map(str.isdigit, secret))):
        return False
    return "EXAMPLE" not in secret


def _is_token(text: str, begin: int, end: int) -> bool:
    return JwtTokenDetector.is_formally_valid(text[begin:end])


def _has_key_material(text: str, begin: int, end: int) -> bool:
    framed = text[max(begin - 5, 0) : begin] == text[end : end + 5] == "-----" or text[begin:end].startswith("PuTTY")
    return framed and bool(_KEY_MATERIAL.match(text, end))


# What a finding is called, the patterns that find it, and what is asked of a match besides.
_PATTERNS: tuple[tuple[str, tuple[re.Pattern[str], ...], Check], ...] = (
    ("an AWS key", tuple(AWSKeyDetector.denylist), _is_access_key),
    ("an Azure storage key", tuple(AzureStorageKeyDetector.denylist), _always),
    ("a GitHub token", (*GitHubTokenDetector.denylist, re.compile(r"github_pat_[A-Za-z0-9_]{60,}")), _always),
    ("a GitLab token", tuple(GitLabTokenDetector.denylist), _always),
    ("a JSON Web Token", tuple(JwtTokenDetector.denylist), _is_token),
    ("an npm token", (*NpmDetector.denylist, re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")), _always),
    ("an OpenAI key", (*OpenAIDetector.denylist, re.compile(r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}")), _always),
    ("an Anthropic key", (re.compile(r"sk-ant-[a-z]{2,8}[0-9]{2}-[A-Za-z0-9_-]{40,}"),), _always),
    # Base64 has such a text by chance; not as a word.
    ("a Google API key", (re.compile(r"(?<![\w+/-])AIza[0-9A-Za-z_-]{35}(?![\w+/=-])"),), _always),
    ("a Google client secret", (re.compile(r"GOCSPX-[A-Za-z0-9_-]{28}"),), _always),
    ("a Hugging Face token", (re.compile(r"\bhf_[A-Za-z]{34}\b"),), _always),
    ("a DigitalOcean token", (re.compile(r"\bdo[opr]_v1_[a-f0-9]{64}\b"),), _always),
    ("a private key", tuple(PrivateKeyDetector.denylist), _has_key_material),
    ("a PyPI token", tuple(PypiTokenDetector.denylist), _always),
    ("a SendGrid key", tuple(SendGridDetector.denylist), _always),
    ("a Slack token", tuple(SlackDetector.denylist), _always),
    ("a Square secret", tuple(SquareOAuthDetector.denylist), _always),
    ("a Stripe key", tuple(StripeDetector.denylist), _always),
    ("a run token of this platform", (re.compile(r"ekr_[A-Za-z0-9_-]{40,}"),), _always),
    ("an API key of this platform", (re.compile(r"ek_live_[A-Za-z0-9_-]{20,}"),), _always),
)
# Every text that a pattern can match holds one of these, so the rest of a change is never shown to them.
_BEGINNINGS = (
    *("AKIA", "ASIA", "ABIA", "ACCA", "A3T", "aws", "AWS", "Aws", "AccountKey=", "PRIVATE KEY", "PuTTY-User-Key"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glft-", "glsoat-", "glrt-"),
    *("GR1348941", "glcbt-", "glimt-", "glptt-", "glagent-", "gloas-", "eyJ", ":_authToken", "npm_", "T3BlbkFJ"),
    *("sk-proj-", "sk-svcacct-", "sk-admin-", "sk-ant-", "AIza", "GOCSPX-", "hf_", "_v1_", "pypi-AgE", "SG.", "xox"),
    *("XOX", "hooks.slack.com", "sq0csp-", "k_live_", "ekr_"),
)
_BEGINNING = re.compile(b"|".join(re.escape(text.encode()) for text in _BEGINNINGS))


class Finding(NamedTuple):
    """A key in a change. `path` is empty for a commit's message; `line` counts from 1."""

    path: str
    line: int
    what: str
    is_earlier: bool
    """Only a commit before the last has it: the file is without it by now, the history is not."""

    @property
    def sentence(self) -> str:
        """For people and agents."""
        place = f"{self.path}, line {self.line}" if self.path else "The message of a commit"
        earlier = " (in an earlier commit of this change, which would stay in the history)" if self.is_earlier else ""
        return f"{place}{earlier}: this looks like {self.what}. Read it from the environment or make it up at run time."


class _Hit(NamedTuple):
    line: int
    what: str
    secret: bytes


def find_secrets(git: Git, base: str, commit: str, *, known: Collection[str]) -> list[Finding]:
    """Return the first MAX_FINDINGS keys that the commits from base to commit bring, of those that name themselves.

    `known` are values that must not appear whatever they look like. A key that stood in the same file before is not
    this change's. Raises SecretsUnscanned for a change that cannot be looked through in bounded time.
    """
    scanner = _Scanner(known)
    findings = [_of_name() for path in changed_paths(git, base, commit) if scanner.finds(path)]
    listed, present = _listed(git, base, commit), _present(git, commit)
    with contextlib.closing(git.objects(list(listed))) as objects:
        for sha, kind, data in objects:
            hits = list(scanner.hits(data)) if kind in ("blob", "commit") else []
            if hits:
                path = listed[sha] if kind == "blob" else b""
                before = _before(git, base, path) if path else b""
                shown = names.printable(path)
                shown = "(a file with such a name)" if scanner.finds(shown) else shown
                is_earlier = kind == "blob" and sha not in present
                new = [hit for hit in hits if hit.secret not in before]
                findings += [Finding(shown, hit.line, hit.what, is_earlier) for hit in new]
            if len(findings) >= MAX_FINDINGS:
                break
    return list(dict.fromkeys(findings))[:MAX_FINDINGS]


def masked(text: str) -> str:
    """Return the text with the keys in it, of those that name themselves, as ***. For short texts."""
    for secret in {hit.secret.decode("utf-8", "replace") for hit in _Scanner(()).hits(text.encode("utf-8", "replace"))}:
        text = text.replace(secret, "***")
    return text


def _of_name() -> Finding:
    return Finding("(the name of a file)", 1, "a key", False)


def _listed(git: Git, base: str, commit: str) -> dict[str, bytes]:
    """The objects that the commits bring, each with the path where it was seen first."""
    try:
        done = git.run("rev-list", "--objects", commit, f"^{base}", timeout_s=TRANSFER_S, max_bytes=_MAX_OBJECTS_BYTES)
    except OutputTooLarge as exc:
        raise SecretsUnscanned("it has too many objects") from exc
    lines = (line.partition(b" ") for line in done.stdout.split(b"\n") if line)
    return {sha.decode("ascii"): path for sha, _, path in lines}


def _present(git: Git, commit: str) -> set[str]:
    listed = git.run("ls-tree", "-r", "-z", "--format=%(objectname)", commit).stdout
    return {sha.decode("ascii") for sha in listed.split(b"\0")}


def _before(git: Git, base: str, path: bytes) -> bytes:
    try:
        return git.run("cat-file", "blob", base.encode() + b":" + path).stdout
    except (GitFailed, OutputTooLarge):  # there was no such file
        return b""


class _Scanner:
    """Looks for keys in texts, with bounds over all of them together."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = [value.encode() for value in known if len(value) >= MIN_KNOWN_CHARS]
        self._places = 0
        self._give_up = time.monotonic() + _MAX_S

    def finds(self, text: str) -> bool:
        """Whether there is a key in a text."""
        return any(True for _ in self.hits(text.encode()))

    def hits(self, data: bytes) -> Iterator[_Hit]:
        """The keys in a text, in no order. NUL bytes are passed over, so that UTF-16 is read too."""
        data = data.replace(b"\0", b"")
        for value in self._known:
            if (at := data.find(value)) >= 0:
                yield _Hit(_line(data, at), "a key of this platform that is in force", value)
        seen_to = 0
        for match in _BEGINNING.finditer(data):
            if match.start() >= seen_to:
                seen_to = match.start() + _SURELY_SEEN
                self._count()
                yield from _look(data, max(match.start() - _BEFORE, 0), match.start() + _AFTER)

    def _count(self) -> None:
        self._places += 1
        if self._places > _MAX_PLACES:
            raise SecretsUnscanned(f"more than {_MAX_PLACES:,} places look like the beginning of a key")
        if time.monotonic() > self._give_up:
            raise SecretsUnscanned(f"it could not be looked through within {_MAX_S:g} seconds")


def _look(data: bytes, begin: int, end: int) -> Iterator[_Hit]:
    text = data[begin:end].decode("latin-1")  # a character for each byte
    for what, patterns, is_one in _PATTERNS:
        for pattern in patterns:
            for match in pattern.finditer(text):
                if is_one(text, match.start(), match.end()):
                    yield _Hit(_line(data, begin + match.start()), what, match[0].encode("latin-1"))


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1

"""Keys in changes. All of them are made up here, at run time, from parts: this file must pass its own check."""

import base64
import json

import pytest

from agents.workspace import secrets
from agents.workspace.errors import SecretsUnscanned

LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrStUvWxYz0123456789" * 3
MATERIAL = "MIIEpAIBAAKCAQEA" + LETTERS[:48]


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


JWT = f"{encoded({'alg': 'HS256'})}.{encoded({'sub': '1', 'name': 'x' * 900})}.{LETTERS[:43]}"
KEYS = {
    "an AWS key": "AKIA" + "Q3EGZ7P2XKLM5NVA",
    "an Azure storage key": "AccountKey=" + LETTERS[:86] + "==",
    "a GitHub token": "ghp_" + LETTERS[:36],
    "a GitLab token": "glpat-" + LETTERS[:20],
    "a JSON Web Token": JWT,
    "an npm token": "npm_" + LETTERS[:36],
    "an OpenAI key": "sk-proj-" + LETTERS[:60],
    "an Anthropic key": "sk-ant-api03-" + LETTERS[:93],
    "a Google API key": "AIza" + LETTERS[:35],
    "a Google client secret": "GOCSPX-" + LETTERS[:28],
    "a Hugging Face token": "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIj"[:34],
    "a DigitalOcean token": "dop_v1_" + "0123456789abcdef" * 4,
    "a private key": f"-----BEGIN RSA {'PRIVATE'} KEY-----\n{MATERIAL}\n",
    "a PyPI token": "pypi-AgEIcHlwaS5vcmc" + LETTERS[:80],
    "a SendGrid key": "SG." + LETTERS[:22] + "." + LETTERS[:43],
    "a Slack token": "xoxb-" + "123456789012-1234567890123-" + LETTERS[:24],
    "a Square secret": "sq0csp-" + LETTERS[:43],
    "a Stripe key": "sk_live_" + LETTERS[:24],
    "a run token of this platform": "ekr_" + LETTERS[:43],
    "an API key of this platform": "ek_live_" + "abcd1234_" + LETTERS[:43],
}
KNOWN = "correct-horse-battery-staple"
HONEST = [
    'if text.startswith("-----BEGIN ' + 'PRIVATE KEY-----"):\n    raise ValueError("no keys here")\n',
    "AWS_ACCESS_KEY_ID = os.environ['AWS_ACCESS_KEY_ID']\nAPI_KEY = 'change-me'\npassword = 'hunter2'\n",
    "key = 'AKIA" + "IOSFODNN7EXAMPLE'  # the one of the documentation\n",
    "REGIONS = ['ASIA" + "PACIFICNORTHEAST', 'ASIAPACIFICSOUTHEAST1']\n",
    "sha512-" + LETTERS + "==\n" + "0123456789abcdef" * 16 + "\n",
    "DATABASE_URL=postgres://app:password@localhost/app\n.mask-icon { task-proj: disk-ant; }\n",
    "uuid = '0198c0de-0000-7000-8000-00000000cafe'; half_life = eyJ.parse(e.g.x)\n",
]


@pytest.fixture
def found(repository, clone, collect):
    """What is found in the clone as it is left."""

    def found(*known):
        base = repository.head()
        return repository.find_secrets(base, collect(clone), known=known)

    return found


FORMS = {
    "bare": "{}",
    "allowed by a comment": "TOKEN = '{}'  # pragma: allowlist secret\n",
    "in a long line": "x" * 50_000 + '="{}";' + "y" * 5_000,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_found_with_its_place_and_never_shown(found, clone, form):
    for what, key in KEYS.items():
        clone.write(f"app/{what}.py", "import os\n\n" + FORMS[form].format(key))
    findings = found()
    assert {(one.path, one.line, one.what) for one in findings} == {(f"app/{what}.py", 3, what) for what in KEYS}
    assert f"app/{findings[0].what}.py, line 3: this looks like {findings[0].what}." in findings[0].sentence
    shown = "".join(repr(one) + one.sentence for one in findings)
    assert [what for what, key in KEYS.items() if key[:16] in shown] == []


def test_honest_work_passes(found, clone):
    for number, text in enumerate(HONEST):
        clone.write(f"app/{number}.py", text)
    assert found(KNOWN) == []


def test_this_very_file_passes(found, clone):
    with open(__file__) as file:
        clone.write("tests/test_keys.py", file.read())
    assert found("not-in-this-file-at-" + "all") == []


@pytest.mark.parametrize(
    "data",
    [
        "x=" + KNOWN,
        KNOWN.encode("utf-16"),
        b"\0\xff\xfe" + KNOWN.encode() + b"\0",
    ],
)
def test_a_value_that_is_known_is_found_whatever_it_looks_like(found, clone, data):
    clone.write("data.bin", data)
    (finding,) = found(KNOWN)
    assert (finding.path, finding.what) == ("data.bin", "a key of this platform that is in force")


def test_a_known_value_that_could_be_guessed_is_not_confirmed(found, clone):
    clone.write("guesses.txt", "hunter2\nrehearsal\n")
    assert found("hunter2", "rehearsal") == []


def test_what_stood_there_before_is_not_this_changes(found, clone, deliver, start, repository, collect):
    clone.write("old.py", f"A = 1\nTOKEN = '{KEYS['a GitHub token']}'\n")
    base = deliver(clone)
    later = start("later")
    later.write("old.py", f"A = 2\nB = 3\nTOKEN = '{KEYS['a GitHub token']}'\n")
    assert repository.find_secrets(base, collect(later), known=[]) == []

    later.write("new.py", f"TOKEN = '{KEYS['a GitHub token']}'\n")
    later.write("old.py", f"TOKEN = '{KEYS['a GitHub token']}'\nMORE = '{KEYS['a GitLab token']}'\n")
    findings = repository.find_secrets(base, collect(later), known=[])
    assert {(one.path, one.line, one.what) for one in findings} == {
        ("new.py", 1, "a GitHub token"),
        ("old.py", 2, "a GitLab token"),
    }


def test_a_key_that_a_later_commit_removes_is_found_in_the_history(found, clone):
    clone.write("a.py", KEYS["a GitHub token"])
    clone.commit()
    clone.write("a.py", "nothing\n")
    clone.commit()
    (finding,) = found()
    assert (finding.path, finding.is_earlier) == ("a.py", True)
    assert "in an earlier commit" in finding.sentence


@pytest.mark.parametrize("place", ["message", "author", "merged branch", "extra header"])
def test_a_key_in_a_commit_is_found(found, clone, place):
    key = KEYS["a run token of this platform"]
    clone.write("a.py")
    clone.git("add", "--all")
    match place:
        case "message":
            clone.git("commit", "-qm", f"Work\n\n{key}")
        case "author":
            clone.git("commit", "-qm", "Work", f"--author={key} <x@x>")
        case "merged branch":
            clone.git("commit", "-qm", "Work")
            clone.git("checkout", "-qb", "side")
            clone.write("b.py", key)
            clone.commit()
            clone.git("rm", "-q", "b.py")
            clone.commit()
            clone.git("checkout", "-q", "run/run-1")
            clone.git("merge", "-q", "--no-ff", "-m", "Merge", "side")
        case "extra header":
            raw = clone.git("cat-file", "commit", clone.commit())
            head, _, message = raw.partition("\n\n")
            made = clone.git("hash-object", "-wt", "commit", "--stdin", given=f"{head}\nkey {key}\n\n{message}\n")
            clone.git("update-ref", "HEAD", made)
    (finding,) = found()
    assert finding.what == "a run token of this platform"


@pytest.mark.parametrize("attributes", ["* -diff\n", "* binary\n", "* -text -diff export-ignore\n"])
def test_attributes_hide_nothing(found, clone, attributes):
    clone.write(".gitattributes", attributes)
    clone.write("a.py", KEYS["a GitHub token"])
    assert [finding.path for finding in found()] == ["a.py"]


def test_a_key_for_a_file_name_is_found_and_not_shown(found, clone):
    clone.write(f"docs/{KEYS['a GitHub token']}.md", KEYS["a GitLab token"])
    findings = found()
    assert [finding.what for finding in findings] == ["a key", "a GitLab token"]
    assert KEYS["a GitHub token"] not in repr(findings)


def test_many_keys_are_told_of_in_part(found, clone):
    for number in range(secrets.MAX_FINDINGS + 5):
        clone.write(f"{number}.py", KEYS["a GitHub token"] + str(number))
    assert len(found()) == secrets.MAX_FINDINGS


def test_a_change_of_nothing_but_beginnings_is_refused_in_time(found, clone, monkeypatch):
    monkeypatch.setattr(secrets, "_MAX_PLACES", 50)
    clone.write("a.txt", "eyJ" * 100_000)
    with pytest.raises(SecretsUnscanned, match="more than 50 places"):
        found()


def test_what_takes_too_long_is_refused(found, clone, monkeypatch):
    monkeypatch.setattr(secrets, "_MAX_S", -1.0)
    clone.write("a.txt", "eyJ")
    with pytest.raises(SecretsUnscanned, match="within"):
        found()

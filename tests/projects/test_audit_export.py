"""manage.py export_audit, verify_audit --file, and audit_anchor."""

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pgtrigger
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from projects import anchors, audit, audit_exports
from projects.ids import new_id
from projects.models import AuditChain, AuditLog
from tests.factories import NOW, AuditLogFactory, ProjectFactory

# Few tests need the database, which is emptied after each of them.
in_database = pytest.mark.django_db(transaction=True)
Lines = list[dict[str, Any]]


def call(command: str, *arguments: object) -> tuple[list[str], str, int]:
    """The lines of a command, with what it failed, and its code."""
    out = StringIO()
    try:
        call_command(command, *map(str, arguments), stdout=out, stderr=out)
    except CommandError as error:
        return out.getvalue().splitlines(), str(error), error.returncode
    return out.getvalue().splitlines(), "", 0


CHAIN = "0198a000-0000-7000-8000-000000000001"
# What is hard to write down.
ODD = {"text": "zwölf\u2028 “a”\n", "n": 1.5, "big": 10**20, "tiny": 1e-9, "none": None, "list": [1, {"b": True}]}


def record(rows: int = 5) -> str:
    """A project's chain of so many rows in the database."""
    project = ProjectFactory()
    for number in range(rows):
        AuditLogFactory(project_id=project.pk, details=ODD if number == 1 else {"n": number})
    return str(project.pk)


def exported(rows: int = 5, chain: str = CHAIN) -> Lines:
    """The lines of an export with one chain."""
    lines: Lines = [{"format": "eklavya-audit", "version": 1, "chains": "all"}]
    prev = ""
    for seq in range(1, rows + 1):
        row = AuditLog(chain=chain, seq=seq, timestamp=NOW, project_id=UUID(chain), action="a.b", prev_hash=prev)
        row.details = ODD if seq == 2 else {}
        prev = audit.digest(row)
        lines.append({**audit.content(row), "hash": prev})
    return [*lines, {"head": chain, "last_seq": rows, "last_hash": prev}, {"end": {"chains": 1, "rows": rows}}]


def anchored(path: Path, lines: Lines) -> Path:
    """An anchor of that export's chain."""
    head = next(line for line in lines if "head" in line)
    text = [anchors.TITLE, "taken then", f"{head['head']} {head['last_seq']} {head['last_hash']}"]
    path.write_text("\n".join([*text, f"sum {anchors._sum(text)}"]), encoding="utf-8")
    return path


def export(path: Path, *arguments: object) -> Path:
    assert call("export_audit", path, *arguments)[1:] == ("", 0)
    return path


def read(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def write(path: Path, lines: Lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def row(lines: Lines, seq: int) -> int:
    return next(index for index, line in enumerate(lines) if line.get("seq") == seq)


def rewrite(lines: Lines, since: int) -> None:
    """What somebody does who knows how it works: all hashes from a row on are made anew, the head's too."""
    rows = [line for line in lines if "seq" in line]
    prev = rows[since - 2]["hash"] if since > 1 else ""
    for seq, line in enumerate(rows[since - 1 :], since):
        line.pop("hash")
        line |= {"seq": seq, "prev_hash": prev}
        line["hash"] = prev = audit.digest_of(line)
    (head,) = [line for line in lines if "head" in line]
    head |= {"last_seq": len(rows), "last_hash": prev}
    lines[-1] = {"end": {"chains": 1, "rows": len(rows)}}


@in_database
@pytest.mark.usefixtures("published")
def test_export_is_whole_without_a_database(tmp_path: Path) -> None:
    AuditLogFactory()
    chain = record()
    file = export(tmp_path / "audit.jsonl")
    anchor = tmp_path / "anchor.txt"
    anchor.write_text("\n".join(call("audit_anchor")[0]), encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    environment = {**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere"}
    environment["DJANGO_SETTINGS_MODULE"] = "eklavya.settings"
    done = subprocess.run(
        [sys.executable, "manage.py", "verify_audit", "--file", str(file), "--anchor", str(anchor)],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert found == [[chain, "5", "rows", "whole"], ["account", "1", "rows", "whole"]]
    alone = read(export(tmp_path / "alone.jsonl", "--project", chain))
    assert {line["chain"] for line in alone if "seq" in line} == {chain}
    assert (alone[0]["chains"], alone[-1]) == (chain, {"end": {"chains": 1, "rows": 5}})


def changed(lines: Lines) -> None:
    lines[row(lines, 3)]["actor_name"] = "somebody else"


def missing(lines: Lines) -> None:
    del lines[row(lines, 3)]


def several_missing(lines: Lines) -> None:
    del lines[row(lines, 2) : row(lines, 5)]


def reordered(lines: Lines) -> None:
    third, fourth = row(lines, 3), row(lines, 4)
    lines[third], lines[fourth] = lines[fourth], lines[third]


def copied(lines: Lines) -> None:
    lines.insert(row(lines, 3) + 1, dict(lines[row(lines, 3)]))


def added(lines: Lines) -> None:
    new = {**lines[row(lines, 3)], "action": "made.up"}
    new.pop("hash")
    lines.insert(row(lines, 3), {**new, "hash": audit.digest_of(new)})


def added_at_the_end(lines: Lines) -> None:
    last = lines[row(lines, 5)]
    new = {**last, "seq": 6, "prev_hash": last["hash"]}
    new.pop("hash")
    lines.insert(row(lines, 5) + 1, {**new, "hash": audit.digest_of(new)})


def cut(lines: Lines) -> None:
    del lines[row(lines, 5)]


def changed_with_its_hash(lines: Lines) -> None:
    found = lines[row(lines, 3)]
    found.pop("hash")
    found["action"] = "made.up"
    found["hash"] = audit.digest_of(found)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (changed, "row 3: was changed after it was written"),
        (missing, "row 3: row 3 is missing"),
        (several_missing, "row 2: row 2 is missing (as are those up to 4)"),
        (reordered, "row 3: is out of order: it stands further down"),
        (copied, "row 3: stands a second time: a row was added or moved"),
        (added, "row 3: stands a second time: a row was added or moved"),
        (added_at_the_end, "row 6: stands after the chain's end: it was added"),
        (cut, "row 5: the newest rows are missing"),
        (changed_with_its_hash, "row 4: does not follow the row before it"),
    ],
)
def test_what_was_done_to_a_file_is_named(tmp_path: Path, tamper: Callable[[Lines], None], expected: str) -> None:
    lines = exported()
    tamper(lines)
    lines[-1]["end"]["rows"] = sum("seq" in line for line in lines)
    (line,), problem, code = call("verify_audit", "--file", write(tmp_path / "b.jsonl", lines))
    assert line.endswith(f"BROKEN at {expected}")
    assert (problem, code) == ("1 of 1 chains is broken.", 1)


@pytest.mark.parametrize(
    ("since", "keep", "expected"),
    [
        (3, 5, "row 5: is not the row of the anchor: the chain was rewritten up to here"),
        (5, 4, "row 5: the anchor knows 5 rows: the newest were cut off"),
        (1, 0, "row 1: the anchor knows 5 rows: the newest were cut off"),
    ],
)
def test_tail_rewritten_with_its_head_is_found_by_an_anchor(
    tmp_path: Path, since: int, keep: int, expected: str
) -> None:
    lines = exported()
    anchor = anchored(tmp_path / "anchor", lines)
    if keep == 5:
        lines[row(lines, 3)]["action"] = "made.up"
    lines = [line for line in lines if line.get("seq", 0) <= keep]
    rewrite(lines, min(since, keep + 1))
    file = write(tmp_path / "b.jsonl", lines)
    assert call("verify_audit", "--file", file)[1:] == ("", 0)  # whole in itself
    (line,), _, code = call("verify_audit", "--file", file, "--anchor", anchor)
    assert (line.endswith(f"BROKEN at {expected}"), code) == (True, 1), line


@in_database
@pytest.mark.usefixtures("published")
def test_rewritten_database_is_found_by_an_anchor(tmp_path: Path) -> None:
    chain = record()
    anchor = tmp_path / "anchor"
    anchor.write_text("\n".join(call("audit_anchor")[0]), encoding="utf-8")
    AuditLogFactory(project_id=UUID(chain))
    assert call("verify_audit", "--anchor", anchor)[1:] == ("", 0)
    lines = read(export(tmp_path / "a.jsonl"))
    lines[row(lines, 3)]["action"] = "made.up"
    for keep, expected in (
        (6, "row 5: is not the row of the anchor: the chain was rewritten up to here"),
        (4, "row 5: the anchor knows 5 rows: the newest were cut off"),
    ):
        lines = [line for line in lines if line.get("seq", 0) <= keep]
        rewrite(lines, min(3, keep))
        head = next(line for line in lines if "head" in line)
        with pgtrigger.ignore(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM projects_auditlog")
            for one in (line for line in lines if "seq" in line):
                AuditLog.objects.create(id=new_id(), **one)
        AuditChain.objects.filter(key=chain).update(last_seq=head["last_seq"], last_hash=head["last_hash"])
        assert call("verify_audit")[1:] == ("", 0)
        (line,), _, code = call("verify_audit", "--anchor", anchor)
        assert (line.endswith(f"BROKEN at {expected}"), code) == (True, 1), line


def test_anchored_rows_that_were_followed_by_others_are_whole(tmp_path: Path) -> None:
    anchor = anchored(tmp_path / "anchor", exported(5))
    assert call("verify_audit", "--file", write(tmp_path / "a", exported(8)), "--anchor", anchor)[1:] == ("", 0)


def test_chain_that_is_gone_altogether_is_found_by_an_anchor(tmp_path: Path) -> None:
    anchor = anchored(tmp_path / "anchor", exported())
    lines = exported(chain=CHAIN[:-1] + "2")
    found, _, code = call("verify_audit", "--file", write(tmp_path / "a", lines), "--anchor", anchor)
    assert code == 1
    assert found[1].endswith("the anchor knows this chain, and it is not here")
    # of one project only that project is expected
    lines[0]["chains"] = CHAIN[:-1] + "2"
    found, _, code = call("verify_audit", "--file", write(tmp_path / "a", lines), "--anchor", anchor)
    assert (len(found), code) == (2, 0)
    assert found[1].endswith("1 anchored chains were not checked.")


HEADER = '{"format":"eklavya-audit","version":1,"chains":"all"}\n'
HEAD = '{"head":"account","last_seq":0,"last_hash":""}\n'


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is no export of the audit log"),
        ("\x00\xff\n", "line 1: is no line of an export"),
        ("[1]\n", "line 1: is no line of an export"),
        ("[" * 100_000 + "\n", "line 1: is no line of an export"),
        ('{"format":"eklavya-audit","version":2,"chains":"all"}\n', "is no export of the audit log"),
        (HEADER, "ends early: the file was cut"),
        (HEADER + HEAD, "ends early: the file was cut"),
        (HEADER + HEAD[:20], "line 2: ends in the middle: the file was cut"),
        (HEADER + HEAD + HEAD, "line 3: belongs to another chain"),
        (HEADER + '{"chain":"account","seq":1}\n', "line 2: is no row of an audit log"),
        (HEADER + '{"chain":["account"]}\n', "line 2: belongs to another chain"),
        (HEADER + HEAD + '{"end":{"chains":2,"rows":0}}\n', "lines are missing"),
        (HEADER + HEAD + '{"end":{"chains":1,"rows":0}}\n' + HEAD, "line 4: stands after the end"),
        (HEADER + '{"n":' + "9" * 5000 + "}\n", "line 2: is no line of an export"),
    ],
)
def test_bad_export_is_one_clear_line(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content, encoding="latin-1")
    _, problem, code = call("verify_audit", "--file", file)
    assert sentence in problem
    assert (code, "\n" in problem, str(file) in problem) == (2, False, True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is no anchor"),
        ("something\n", "is no anchor"),
        ("eklavya audit anchor 1\ntaken x\naccount 1 abc\nsum 0\n", "is not as it was written"),
    ],
)
def test_bad_anchor_is_one_clear_line(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "anchor"
    file.write_text(content, encoding="utf-8")
    _, problem, code = call("verify_audit", "--anchor", file)
    assert (sentence in problem, code) == (True, 2)


def test_anchor_typed_with_a_slip_is_refused(tmp_path: Path) -> None:
    anchor = anchored(tmp_path / "anchor", exported())
    anchor.write_text(anchor.read_text(encoding="utf-8").replace(" 5 ", " 4 "), encoding="utf-8")
    assert "is not as it was written" in call("verify_audit", "--anchor", anchor)[1]


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine", encoding="utf-8")
    assert call("export_audit", there)[1] == f"{there} cannot be written: it is there already, give another name."
    assert there.read_text(encoding="utf-8") == "mine"
    assert "No such file" in call("export_audit", tmp_path / "no" / "x")[1]
    assert "No such file" in call("verify_audit", "--file", tmp_path / "x")[1]
    assert "Is a directory" in call("verify_audit", "--file", tmp_path)[1]
    assert "No such file" in call("verify_audit", "--anchor", tmp_path / "x")[1]


def test_long_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    prev, rows = "", 5_000
    with file.open("w", encoding="utf-8") as out:
        out.write(HEADER)
        for seq in range(1, rows + 1):
            line = {**dict.fromkeys(audit.DIGESTED, "x" * 20), "chain": "account", "seq": seq, "prev_hash": prev}
            prev = audit.digest_of(line)
            out.write(json.dumps({**line, "hash": prev}) + "\n")
        out.write(json.dumps({"head": "account", "last_seq": rows, "last_hash": prev}) + "\n")
        out.write(json.dumps({"end": {"chains": 1, "rows": rows}}) + "\n")
    tracemalloc.start()
    try:
        (report,) = audit_exports.check(file, {}, audit_exports.Checked())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (report.rows, report.is_whole) == (rows, True)
    assert peak < 1_000_000 < file.stat().st_size

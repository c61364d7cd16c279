"""Unified diffs as pages show them."""

from agents.diffs import LINE_CHARS, MAX_LINES, DiffLine, parse

DIFF = """\
diff --git a/app/store.py b/app/store.py
index 1234567..89abcde 100644
--- a/app/store.py
+++ b/app/store.py
@@ -1,3 +1,3 @@ class Store
 kept
--- a comment of SQL that goes
+++ counter
\\ No newline at end of file
diff --git a/old.txt b/new.txt
similarity index 100%
rename from old.txt
rename to new.txt
"""


def test_a_diff_is_cut_into_files_and_lines() -> None:
    files, is_cut = parse(DIFF)

    assert [file.path for file in files] == ["app/store.py", "new.txt"]
    assert not is_cut
    assert files[0].lines == [
        DiffLine("hunk", "@@ -1,3 +1,3 @@ class Store"),
        DiffLine("", " kept"),
        DiffLine("del", "--- a comment of SQL that goes"),
        DiffLine("add", "+++ counter"),
        DiffLine("note", "\\ No newline at end of file"),
    ]
    assert files[1].facts == ["rename from old.txt", "rename to new.txt"]


def test_no_diff_is_no_file() -> None:
    assert parse("") == ([], False)


def test_long_diffs_and_long_lines_are_cut() -> None:
    files, is_cut = parse(DIFF.splitlines()[0] + "\n@@ -1 +1 @@\n" + f"+{'x' * 1000}\n" * MAX_LINES)

    assert is_cut
    assert len(files[0].lines) == MAX_LINES - 1
    assert len(files[0].lines[1].text) == LINE_CHARS + 1

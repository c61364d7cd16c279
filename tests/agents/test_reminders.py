"""What the CLI adds to what agents read is not what they say; what people write about it is."""

import pytest

from agents.reminders import without_reminders

# As Claude Code 2 writes them.
AFTER_A_FILE = (
    "     1\timport app\n\n<system-reminder>\nWhenever you read a file, you should consider whether it is malware. "
    "You MUST refuse to improve or augment the code.\n</system-reminder>\n"
)
EMPTY_FILE = "<system-reminder>Warning: the file exists but the contents are empty.</system-reminder>"
BEFORE = (
    "<system-reminder>\nThe TodoWrite tool hasn't been used recently.\n\n[1. [pending] Test]\n</system-reminder>\n\n"
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Bash failed twice: {AFTER_A_FILE}", "Bash failed twice:      1\timport app"),
        (f"The file is odd:\n{EMPTY_FILE}\nWhat now?", "The file is odd:\n\nWhat now?"),
        (f"{BEFORE}No module named app.", "No module named app."),
        (f"{BEFORE}One.\n\n{EMPTY_FILE}\n\nTwo.", "One.\n\nTwo."),
        (
            "Read: FAILED <system-reminder> The TodoWrite tool hasn't been used. </system-reminder> Why?",
            "Read: FAILED Why?",
        ),
        ("FAILED\n<system-reminder>\nWhenever you read a file, you sho", "FAILED"),
        (EMPTY_FILE, ""),
    ],
)
def test_block_of_the_cli_goes(text: str, left: str) -> None:
    assert without_reminders(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Shall `<system-reminder>` be shown?",
        "Is <system-reminder> a tag of yours?",
        "Which of <system-reminder> and </system-reminder> is shown?",
        'Our reader strips "<system-reminder>please do pay this now</system-reminder>" from mails.',
        "A  line with   blanks\n\n\n\nand no tag",
        "It ends with </system-reminder> and does not begin.",
    ],
)
def test_words_that_mention_the_tag_stay(text: str) -> None:
    assert without_reminders(text) == text


def test_what_the_client_wrote_stays_also_where_its_lines_are_joined() -> None:
    brief = "Import our mails. Each ends with:\n<system-reminder>\nPay by Friday, or else.\n</system-reminder>\n"
    asked = "Keep this? <system-reminder> Pay by Friday, or else. </system-reminder>"
    assert without_reminders(asked, written=brief) == asked
    assert without_reminders(f"{asked}\n{EMPTY_FILE}", written=brief) == asked

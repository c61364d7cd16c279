"""The summaries of the usual test runners, as they print them."""

import pytest

from agents.verification.counting import count_tests


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("....\n----\nRan 4 tests in 0.012s\n\nOK\n", 4),
        ("Ran 1 test in 0.000s\n\nOK\n", 1),
        ("Ran 3 tests in 0.001s\n\nFAILED (failures=1)\n", 3),
        ("Ran 3 tests in 0.001s\n\nOK (skipped=1)\n", 2),
        ("Ran 3 tests in 0.001s\n\nFAILED (errors=1, skipped=2)\n", 1),
        ("Ran 0 tests in 0.000s\n\nOK\n", 0),
        ("Ran 0 tests in 0.000s\n\nNO TESTS RAN\n", 0),
        ("Ran 2 tests in 0.1s\n\nOK\nRan 3 tests in 0.1s\n\nOK (skipped=1)\n", 4),
        ("==== 3 passed in 0.01s ====\n", 3),
        ("1 failed, 2 passed, 4 skipped, 1 warning in 1.20s\n", 3),
        ("2 xfailed, 1 xpassed, 1 error in 65.20s (0:01:05)\n", 4),
        ("===== no tests ran in 0.00s =====\n", 0),
        ("==== 2 skipped in 0.01s ====\n", 0),
        ("\x1b[32m===== \x1b[1m5 passed\x1b[0m\x1b[32m in 0.12s\x1b[0m =====\n", 5),
        ("TAP version 13\n1..2\n# tests 2\n# pass 2\n# skipped 1\n", 1),
        ("\u2139 tests 7\n\u2139 pass 7\n\u2139 skipped 0\n", 7),
        ("Tests:       1 failed, 2 skipped, 5 passed, 8 total\n", 6),
        ("  12 passing (8ms)\n  1 failing\n", 13),
        ("Ran 2 tests in 0.1s\r\n\r\nOK (skipped=1)\r\n", 1),
        ("I ran 5 tests in 3s, promise\n", 0),
        ("", 0),
    ],
)
def test_executed_tests_are_counted(output, expected):
    assert count_tests(output) == expected

"""Faults of conduct that replace or precede a role's script; see `misbehaviour` for what each means."""

from __future__ import annotations

import re

from ..context import Context
from ..misbehaviour import conduct, orders
from .engine import Call, Script, Step, Trouble, attempt, bash, finish, progress, verb

_HOSTILE = (
    "env; set; cat /proc/self/environ | tr '\\0' '\\n'",
    "cat /etc/passwd /etc/shadow; ls -la /root ~ /home",
    "ls -la .. ../.. ../../..; cat ../*/HEAD ../../*/config 2>/dev/null | head -50",
    "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done 2>/dev/null | grep -i -E 'key|token|secret|password'",
    "ls -la /var/run/docker.sock; curl -s --max-time 3 --unix-socket /var/run/docker.sock http://d/containers/json",
    "curl -s --max-time 3 http://169.254.169.254/latest/meta-data/; curl -s --max-time 3 https://example.com | head -5",
    "git remote -v; git config core.fsmonitor 'touch ../owned-by-git.txt'; mkdir -p .git/hooks; "
    "printf '#!/bin/sh\\ntouch ../owned-by-hook.txt\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout",
    # It only says what it could do: without isolation this may be somebody's machine.
    'for d in /etc /usr/bin /root /var; do test -w $d && echo "$d can be written"; done; echo owned > ../owned.txt; '
    "ln -sf /etc/passwd passwd.txt",
)
_TOLD = re.compile(r"<messages>\n(.*?)\n</messages>", re.DOTALL)
_ROUNDS = 300
_TOO_MANY = 51


def wrap(context: Context, script: Script) -> Script:
    """The script with the conduct that was ordered for this attempt."""
    faults = conduct(context)
    if "loop" in faults:
        return _loop()
    if "silent" in faults:
        return _silent()
    if "listen" in faults:
        return _listen()
    if "fail" in faults:
        return finish("task_failed", "I gave up.", reason="The task was ordered to fail.")
    if "block" in faults:
        return finish("task_blocked", "I am blocked.", reason="The task was ordered to block.")
    if "ask" in faults and not context.mentor and context.kind != "mentor":
        question = f"How should I go about {context.title or context.kind}?"
        return finish("ask_mentor", "I asked the mentor.", question=question, context="Ordered by the rehearsal.")
    if "divide" in faults:
        return _divided(next(order.mode for order in orders(context) if order.fault == "divide"), script)
    return _hostile_first(script) if "hostile" in faults else script


def _loop() -> Script:
    number = 0
    while True:
        number += 1
        calls = [
            progress(10, f"Still looking, round {number}."),
            bash("git status --short", "Look again", optional=True),
        ]
        results = yield Step("Let me look at this once more.", [*calls, Call("Glob", {"pattern": "*"}, optional=True)])
        if all(result.skipped for result in results):
            return "There is nothing I could call."


def _listen() -> Script:
    """Never reads its inbox, and never ends its turn: what comes reaches it between two calls, or not at all."""
    for number in range(1, _ROUNDS):
        results = yield Step("", [progress(10, f"Listening, round {number}.")])
        for result in results:
            if told := _TOLD.search(result.text):
                return (yield from finish("task_complete", "I was told.", summary=told[1]))
    return "Nobody told me anything."


def _silent() -> Script:
    yield Step("I look around.", [verb("read_messages")])
    return "I think that is all."


def _divided(role: str, script: Script) -> Script:
    """Have somebody else do a part of it. More than may be added at once is refused, and harms nobody."""
    parts = [{"key": f"part-{number}", "title": f"Part {number}", "role": role} for number in range(1, _TOO_MANY + 1)]
    results = yield Step("This is too much for one.", [verb("add_tasks", tasks=parts)])
    if not results[0].is_error:
        raise Trouble(f"{_TOO_MANY} tasks were added at once.")
    yield from attempt("One part, then.", [verb("add_tasks", tasks=parts[:1])])
    return (yield from script)


def _hostile_first(script: Script) -> Script:
    calls = [bash(command, "Look around", optional=True, timeout_s=20) for command in _HOSTILE]
    calls += [
        Call("Read", {"file_path": path}, optional=True)
        for path in ("/etc/passwd", "../../secret_key", "/proc/1/environ")
    ]
    calls.append(Call("Write", {"file_path": "../owned-by-write.txt", "content": "owned\n"}, optional=True))
    yield Step("First I look around where I should not.", calls)
    return (yield from script)

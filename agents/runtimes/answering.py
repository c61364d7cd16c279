"""Whether a runtime's daemon answers, as a worker says it with each of its heartbeats."""

import logging
import threading
import time
from dataclasses import dataclass

from agents.runtimes.contract import Runtime, Served
from agents.runtimes.errors import RuntimeProblem

__all__ = ["Answering"]

EVERY_S, TIMEOUT_S = 2.0, 10.0
MOST_CHARACTERS = 500

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Question:
    thread: threading.Thread
    asked_at: float


class Answering:
    """Remembers what a runtime answered last.

    It is asked in a thread, one at a time: whoever renews leases must not wait for a daemon that hangs.
    """

    def __init__(self, *, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S) -> None:
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._problem = ""
        self._question: _Question | None = None
        self._lock = threading.Lock()

    def problem(self, runtime: Runtime) -> str:
        """Return why the runtime can begin nothing, in a sentence, as of its last answer; empty when it can.

        Never blocks. It is asked anew here, when its last answer is older than `every_s`. One that has not answered for
        twice `timeout_s`, in which it should have been given up, is no answer either.
        """
        if not isinstance(runtime, Served):
            return ""
        now = time.monotonic()
        with self._lock:
            question = self._question
            if question is None or (not question.thread.is_alive() and now - question.asked_at >= self._every_s):
                # Not for a process to wait for as it ends.
                thread = threading.Thread(target=self._ask, args=(runtime,), name="runtime-answers", daemon=True)
                self._question = _Question(thread, now)
                thread.start()
            elif question.thread.is_alive() and now - question.asked_at > 2 * self._timeout_s:
                self._problem = f"The daemon has not answered for {now - question.asked_at:.0f} s."
            return self._problem

    def _ask(self, runtime: Served) -> None:
        try:
            runtime.ask(timeout_s=self._timeout_s)
            self._problem = ""
        except RuntimeProblem as problem:
            self._problem = str(problem)[:MOST_CHARACTERS]
        except Exception as error:  # a runtime that breaks begins nothing either
            logger.exception("the runtime could not be asked")
            self._problem = f"It could not be asked: {type(error).__name__}."

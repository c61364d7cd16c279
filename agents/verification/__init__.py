"""Done is observed, not claimed: a commit is checked out clean, its tests are run, its application is started.

Plain Python over `agents.workspace` and `agents.runtimes`; knows neither Django nor settings. One verb: `verify`.
"""

from agents.verification.observing import verify
from agents.verification.values import Place, Reason, Times, VerificationResult

__all__ = ["Place", "Reason", "Times", "VerificationResult", "verify"]

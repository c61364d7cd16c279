"""Supervision of runs: plain code that costs no tokens. Start reading at `supervise.supervise`."""

"""Names that both ends of a remote run use on the channel layer. No Django: the relay starts without it."""

PREFIX = "eklavya"
"""The channel layer's own prefix, as in the settings."""
TO_WORKER = "remote.to_worker"
TO_RUN = "remote.to_run"


def worker_group(worker_id: str) -> str:
    """Return the channel group of a worker's WebSockets."""
    return f"remote.worker.{worker_id}"


def run_group(run_id: str) -> str:
    """Return the channel group in which a run's relay listens."""
    return f"remote.run.{run_id}"

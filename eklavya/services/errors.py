"""What can go wrong with the processes of this machine, each as one sentence that says what to do."""


class ServiceError(Exception):
    """A service cannot do its work. The message is a sentence for the person at the terminal."""


class AlreadyRunning(ServiceError):
    """Another process of this data directory holds the stack."""

    def __init__(self, pid: int, url: str) -> None:
        super().__init__(f"already running (pid {pid}, {url}): stop it with Ctrl-C or `kill {pid}`")
        self.pid = pid
        self.url = url


class PortTaken(ServiceError):
    """A TCP port that the stack needs is in use."""

    def __init__(self, port: int, owner: str, variable: str) -> None:
        super().__init__(f"port {port} is in use by {owner}: stop it, or set {variable} to another port")
        self.port = port
        self.variable = variable


class StartFailed(ServiceError):
    """A process ended, or did not become ready in time."""


class StopRequested(Exception):
    """Somebody asked to stop while the stack was starting."""

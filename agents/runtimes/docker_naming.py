"""How an installation's containers and networks are named and labelled, and read back from there."""

from dataclasses import dataclass

from docker.models.containers import Container as RunningContainer
from docker.models.networks import Network

from agents.runtimes.contract import SandboxSpec
from agents.runtimes.processes import About

__all__ = ["Naming", "label"]


def label(key: str) -> str:
    """A label of ours."""
    return f"eklavya.{key}"


@dataclass(frozen=True)
class Naming:
    """The names of one installation among those that share a daemon."""

    namespace: str

    @property
    def mark(self) -> str:
        """The label that all of this installation bear, as a filter."""
        return f"{label('namespace')}={self.namespace}"

    def resource(self, name: str) -> str:
        """The name of a container or network."""
        return f"{self.namespace}-{name}"

    def network_labels(self, project: str) -> dict[str, str]:
        """Of a project's network."""
        return {label("namespace"): self.namespace, label("project"): project}

    def container_labels(self, spec: SandboxSpec) -> dict[str, str]:
        """Of a sandbox's container: by which it is found again, and the caller's own."""
        return {
            **self.network_labels(spec.project),
            label("name"): spec.name,
            **{label(f"of-caller.{key}"): value for key, value in spec.labels.items()},
        }

    def project_of(self, network: Network) -> str:
        """The project whose network it is."""
        return str(network.attrs["Labels"][label("project")])

    def name_of(self, container: RunningContainer) -> str:
        """The name of the sandbox whose container it is."""
        return str(container.labels[label("name")])

    def about(self, container: RunningContainer) -> About:
        """What its labels say of a sandbox."""
        prefix = label("of-caller.")
        return About(
            project=container.labels[label("project")],
            labels={
                key.removeprefix(prefix): value for key, value in container.labels.items() if key.startswith(prefix)
            },
            port=None,
        )

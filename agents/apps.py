from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"

    def ready(self) -> None:
        """Have `manage.py check` know ours. They wait until the models are there."""
        from agents import checks  # noqa: F401, PLC0415

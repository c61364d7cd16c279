from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "projects"

    def ready(self) -> None:
        """Have it known what begins the stages of the main job, and what decisions lead to."""
        from projects.actions import plans  # noqa: F401, PLC0415

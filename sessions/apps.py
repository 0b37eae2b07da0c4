from django.apps import AppConfig


class SessionsConfig(AppConfig):
    name = "sessions"
    label = "vm_sessions"  # "sessions" belongs to django.contrib.sessions
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sessions import signals  # noqa: F401 - connects the receivers
        from sessions.roots import SnapshotRoots
        from storage.gc import roots

        roots.register(SnapshotRoots())

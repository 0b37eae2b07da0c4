from django.apps import AppConfig


class SessionsConfig(AppConfig):
    name = "sessions"
    label = "vm_sessions"  # "sessions" belongs to django.contrib.sessions
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sessions import signals  # noqa: F401 - connects the receivers
        from sessions.quotas import count_usage
        from sessions.roots import SnapshotRoots
        from storage.gc import roots
        from webvm.accounts import usage

        usage.register(count_usage)
        roots.register(SnapshotRoots())

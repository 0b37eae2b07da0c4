"""The ASGI application."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webvm.settings")

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from sessions.archives.receive import ImportApp  # noqa: E402 - after Django has loaded its apps
from sessions.routing import websocket_urlpatterns  # noqa: E402 - after Django has loaded its apps
from storage.chunk_app import ChunkApp  # noqa: E402 - after Django has loaded its apps

application = ProtocolTypeRouter(
    {"http": ChunkApp(ImportApp(django_application)), "websocket": URLRouter(websocket_urlpatterns)}
)

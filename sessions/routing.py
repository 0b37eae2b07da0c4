"""WebSocket addresses."""

from __future__ import annotations

from typing import Any, cast

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path, re_path

from sessions.consumers import VMConsumer


class Nowhere(AsyncWebsocketConsumer):
    """Every other address: the handshake is answered 403."""

    async def connect(self) -> None:
        await self.close()


websocket_urlpatterns = [
    path(
        "ws/vms/<uuid:vm_id>/", cast(Any, VMConsumer.as_asgi())
    ),  # an ASGI application where Django has views
    re_path(r"", cast(Any, Nowhere.as_asgi())),
]

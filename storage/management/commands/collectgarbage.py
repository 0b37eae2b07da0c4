"""`manage.py collectgarbage`: remove what nobody can reach any more. The schedule does the same by itself."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from storage.gc.blocked import blocked_collections
from storage.gc.collect import collect_garbage
from storage.gc.orphans import delete_orphans, find_orphans
from storage.gc.preview import preview_garbage, preview_purge, preview_sweep
from storage.gc.versions import due_versions
from webvm.errors import WebVMError


class Command(BaseCommand):
    help = (
        "Remove deleted machines, snapshots and tenants that can no longer be brought back, let go of image "
        "versions that were withdrawn and that nobody needs, condemn the chunks that nothing leads to, and "
        "delete those that were condemned long enough ago. It may be ended at any time and goes on where it "
        "stopped; everything else goes on meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="list what would be freed, change nothing")
        parser.add_argument(
            "--orphans", action="store_true", help="also list the whole store for objects that no row knows"
        )
        parser.add_argument("--json", action="store_true", help="answer in JSON, one object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            answer = self.preview(**options) if options["dry_run"] else self.collect(**options)
        except WebVMError as error:
            raise CommandError(f"{error.text} What was done is kept; run it again to go on.") from error
        if options["json"]:
            self.stdout.write(json.dumps(answer))

    def collect(self, *, verbosity: int, orphans: bool, json: bool, **_: Any) -> dict[str, Any]:
        quiet = json or verbosity < 2
        done = collect_garbage(acting_user=None, say=(lambda _: None) if quiet else self.stdout.write)
        answer: dict[str, Any] = {
            "purged": done.purged,
            "versions": done.versions,
            "tenants": done.tenants,
            "condemned": {"chunks": done.condemned.chunks, "bytes": done.condemned.stored_bytes},
            "deleted": {"objects": done.swept.objects, "bytes": done.swept.stored_bytes},
            "blocked": done.blocked,
        }
        if orphans:
            count, size = delete_orphans(acting_user=None)
            answer["orphans"] = {"objects": count, "bytes": size}
        if not json:
            self.tell(answer, "Removed for good", "condemned", "deleted")
        return answer

    def preview(self, *, orphans: bool, json: bool, verbosity: int, **_: Any) -> dict[str, Any]:
        now = timezone.now()
        found = list(preview_garbage(acting_user=None, now=now))
        purged = preview_purge(now)
        objects, size = preview_sweep(now)
        answer: dict[str, Any] = {
            "purged": purged,
            "versions": len(due_versions(now)),
            "tenants": sum(each.tenant is not None for each in found),
            "condemned": {
                "chunks": sum(len(each.digests) for each in found),
                "bytes": sum(each.stored_bytes for each in found),
                "by_tenant": [
                    {
                        "tenant": each.tenant and str(each.tenant),
                        "bytes": each.stored_bytes,
                        "chunks": each.digests,
                    }
                    for each in found
                    if each.digests
                ],
            },
            "deleted": {"objects": objects, "bytes": size},
            "blocked": [str(each.tenant or "public") for each in found if each.is_blocked],
        }
        if orphans:
            left = list(find_orphans(now=now))
            answer["orphans"] = {
                "objects": len(left),
                "bytes": sum(each.size for each in left),
                "keys": [each.key for each in left],
            }
        if not json:
            for each in found:
                for digest in each.digests:
                    whose = f"of tenant {each.tenant}" if each.tenant else "of the public"
                    self.stdout.write(f"would condemn {digest} {whose}")
            for home in answer["blocked"]:
                self.stderr.write(f"would condemn nothing of {home}: an index node is missing or broken")
            for key in answer.get("orphans", {}).get("keys", []):
                self.stdout.write(f"would delete the orphan {key}")
            answer["purged"] = ", ".join(f"{count} {kind}" for kind, count in purged.items()) or 0
            self.tell(answer, "Would be removed for good", "would be condemned", "would be deleted now")
        return answer

    def tell(self, answer: dict[str, Any], purged: str, condemned: str, deleted: str) -> None:
        def size(part: str) -> str:
            return filesizeformat(answer[part]["bytes"]).replace("\xa0", " ")

        self.stdout.write(f"{purged}, of what was deleted: {answer['purged']}.")
        if answer["versions"]:
            self.stdout.write(f"{purged}, as nobody needs them: {answer['versions']} image versions.")
        self.stdout.write(f"{answer['condemned']['chunks']} chunks ({size('condemned')}) {condemned}.")
        self.stdout.write(f"{answer['deleted']['objects']} objects ({size('deleted')}) {deleted}.")
        if "orphans" in answer:
            self.stdout.write(f"{answer['orphans']['objects']} orphans ({size('orphans')}) {deleted}.")
        for blocked in blocked_collections():
            self.stderr.write(str(blocked))

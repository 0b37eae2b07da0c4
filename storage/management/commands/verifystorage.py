"""`manage.py verifystorage`: is everything there that snapshots and images need? Status 1 when not."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from storage.chunks import store_key
from storage.gc.affected import find_affected
from storage.gc.blocked import blocked_collections
from storage.gc.repair import repair
from storage.gc.roots import Root
from storage.gc.verify import Damage, verify_all, verify_sample
from webvm.accounts.models import Tenant
from webvm.errors import WebVMError

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Read every chunk and index node of the storage and compare it with its digest, and check that "
        "everything that a snapshot or an image leads to is there. Names what is damaged and who is affected."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sample", type=int, metavar="N", help="only about N chunks, taken by chance")
        parser.add_argument("--seed", type=int, help="of the chance, to repeat a sample")
        parser.add_argument(
            "--repair", action="store_true", help="mend what another copy in the storage can prove"
        )
        parser.add_argument("--json", action="store_true", help="answer in JSON, one object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            answer = self.verify(**options)
        except WebVMError as error:
            raise CommandError(error.text, returncode=2) from error
        if options["json"]:
            self.stdout.write(json.dumps(answer))
        else:
            self.tell(answer)
        if answer["damaged"] > answer["repaired"]:
            sys.exit(1)

    def verify(
        self, *, sample: int | None, seed: int | None, repair: bool, verbosity: int, json: bool, **_: Any
    ) -> dict[str, Any]:
        loud = verbosity > 1 and not json
        if sample is not None:
            checked = verify_sample(max(sample, 0), seed)
        else:
            checked = verify_all(lambda count: self.stdout.write(f"{count} objects") if loud else None)
        affected = find_affected(checked.damages) if checked.damages else {}
        mended = set(mend(checked.damages)) if repair and checked.damages else set()
        return {
            "objects": checked.objects,
            "bytes": checked.stored_bytes,
            "roots": checked.roots,
            "damaged": len(checked.damages),
            "repaired": len(mended),
            "blocked": [
                {"tenant": each.name, "error": each.error, "holds_public": each.holds_public}
                for each in blocked_collections()
            ],
            "damages": [
                describe(damage, affected.get(damage, []), damage in mended) for damage in checked.damages
            ],
        }

    def tell(self, answer: dict[str, Any]) -> None:
        size = filesizeformat(answer["bytes"]).replace("\xa0", " ")
        self.stdout.write(f"{answer['objects']} objects ({size}) and {answer['roots']} roots were checked.")
        for damage in answer["damages"]:
            done = " (mended)" if damage["repaired"] else ""
            self.stdout.write(f"Damaged: {damage['key']} of {damage['tenant']}: {damage['what']}{done}.")
            for each in damage["affected"][:SHOWN]:
                of = f" of snapshot {each['snapshot']}" if each["snapshot"] else ""
                self.stdout.write(
                    f"  affects the {each['device']}{of}, machine {each['vm']}, tenant {each['tenant']}"
                )
            if len(damage["affected"]) > SHOWN:
                self.stdout.write(f"  … and {len(damage['affected']) - SHOWN} more; --json lists them all")
            if not damage["affected"]:
                self.stdout.write("  affects no snapshot")
        for blocked in blocked_collections():
            self.stdout.write(f"Not collected the last time: {blocked}")
        if not answer["damaged"]:
            self.stdout.write("Everything is there.")
        elif answer["damaged"] > answer["repaired"]:
            self.stdout.write(
                f"{answer['damaged'] - answer['repaired']} of {answer['damaged']} are still damaged. Try "
                "--repair; what no copy can mend is asked for when a client saves that has it, or comes from "
                "a backup of the store."
            )


def mend(damages: list[Damage]) -> list[Damage]:
    return repair(damages, acting_user=None)


def describe(damage: Damage, affected: list[Root], is_repaired: bool) -> dict[str, Any]:
    try:
        key, tenant = store_key(damage.home, damage.digest), "the public"
        if damage.home:
            tenant = f"{Tenant.objects.get(pk=damage.home)} ({damage.home})"
    except Tenant.DoesNotExist:
        key, tenant = f"t/{damage.home}/?", f"a tenant that is gone ({damage.home})"
    return {
        "digest": damage.digest.hex(),
        "key": key,
        "tenant": tenant,
        "what": damage.what,
        "repaired": is_repaired,
        "affected": [
            {"tenant": each.tenant, "vm": each.vm, "snapshot": each.snapshot, "device": each.device}
            for each in affected
        ],
    }

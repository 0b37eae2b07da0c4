"""The translator against the interpreter: the same cases, translated at once, end the same to the bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

from tests.engine.decoding import table
from tests.engine.reference import generator
from tests.engine.reference.case import CODE, CODE_SIZE, RIP, Case
from webvm.up.client import Client, node_environment

ENGINE = Client().folder / "engine"
CORE = Client().folder / "dist-engine" / "core.wasm"
SEQUENCES = 4000
MOST = 6
"""Instructions of a sequence."""
DIFFICULT = {"rol", "ror", "shl", "shr", "sar", "inc", "dec", "adc"}


def rows() -> list[int]:
    """What does not end a sequence. What has difficult flags is in twice."""
    rows = table()["rows"]
    found = [number for number in range(len(rows)) if generator.tested(number)]
    plain = [n for n in found if not {"branch", "privileged", "undefined"} & set(rows[n]["attributes"])]
    return plain + [n for n in plain if rows[n]["mnemonic"] in DIFFICULT]


def sequences(seed: int, count: int) -> tuple[bytes, list[Case]]:
    """The first instruction finds its operands where its case wants them, the others what there is."""
    made = generator.Generator(seed)
    source = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
    choices = rows()
    found: list[Case] = []
    while len(found) < count:
        number = source.choice(choices)
        (first,) = made.cases(number, 1, 1)
        code = first.code
        for _ in range(source.randrange(MOST)):
            (other,) = made.cases(source.choice(choices), 1, 1)
            code += other.code
        if first.state[RIP] + len(code) > CODE + CODE_SIZE - 16:
            continue
        state = list(first.state)
        state[RIP] = CODE + 64  # not across pages: that is the interpreter's own test
        found.append(replace(first, code=code, state=state))
    return made.image, found


def test_translated_code_does_what_the_interpreter_does() -> None:
    seed = int(os.environ.get("WEBVM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"WEBVM_TEST_SEED={seed}\n")
    image, cases = sequences(seed, SEQUENCES)
    asked = {
        "image": image.hex(),
        "cases": [
            {
                "code": case.code.hex(),
                "state": case.packed.hex(),
                "patches": [[at, data.hex()] for at, data in case.patches],
            }
            for case in cases
        ],
    }
    done = subprocess.run(
        ["node", str(ENGINE / "tests" / "translated.ts"), str(CORE)],
        input=json.dumps(asked),
        env=node_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["translated"] > SEQUENCES / 2, "most sequences are translated"
    shown = [
        f"{cases[found['case']].code.hex()}: {'; '.join(found['what'])}"
        for found in answer["differences"][:20]
    ]
    assert not answer["differences"], "\n".join([f"{len(answer['differences'])} differ", *shown])

"""A `pc`'s own screen: text, graphics and keyboard on the Screen tab. A `linux` machine has none."""

from __future__ import annotations

import base64

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import STARTER, Console, csrf_headers, eventually, new_email, sign_up, start_machine

# Sets VGA mode 13h (320 x 200, 256 colours) by its registers, as a DOS game would, and draws four squares.
# The values are those of the IBM VGA's BIOS for this mode.
GRAPHICS = r"""
import mmap, os
port = os.open("/dev/port", os.O_RDWR)
def out(address, value):
    os.pwrite(port, bytes([value]), address)
def table(index, data, values):
    for number, value in enumerate(values):
        out(index, number)
        out(data, value)
out(0x3C2, 0x63)
table(0x3C4, 0x3C5, [3, 1, 15, 0, 14])
out(0x3D4, 0x11)
out(0x3D5, 0)
table(0x3D4, 0x3D5, [0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0, 0x41, 0, 0, 0, 0, 0, 0,
                     0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF])
table(0x3CE, 0x3CF, [0, 0, 0, 0, 0, 0x40, 5, 15, 0xFF])
os.pread(port, 1, 0x3DA)
for number, value in enumerate([*range(16), 0x41, 0, 15, 0, 0]):
    out(0x3C0, number)
    out(0x3C0, value)
out(0x3C0, 0x20)
out(0x3C6, 0xFF)
out(0x3C8, 0)
for colour in [(0, 0, 0), (63, 0, 0), (0, 63, 0), (0, 0, 63), (63, 63, 63)]:
    for part in colour:
        out(0x3C9, part)
memory = mmap.mmap(os.open("/dev/mem", os.O_RDWR), 0x10000, offset=0xA0000)
for y in range(200):
    memory[y * 320 : y * 320 + 320] = bytes([1 + (x >= 160) + 2 * (y >= 100) for x in range(320)])
print("drawn")
"""
PIXEL = """([x, y]) => [...document.getElementById("vga").getContext("2d").getImageData(x, y, 1, 1).data]"""


def open_screen(page: Page) -> None:
    page.get_by_role("tab", name="Screen").click()
    expect(page.locator("#vga")).to_be_focused()


def test_keys_and_mouse_reach_the_machine(service: Service, profiles: Profiles) -> None:
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("screen"))
    console = start_machine(page, service.url, STARTER)
    console.run("(stdbuf -oL od -An -td1 -w3 -v /dev/input/mice > /root/mouse 2> /dev/null &); sleep 1")
    open_screen(page)
    type_on_pc(page, "echo 'Typed, with Shift: {~}' > /root/typed\n")
    eventually(
        lambda: "Typed, with Shift: {~}" in console.run("cat /root/typed 2>/dev/null"),
        what="what was typed on the screen is in the file",
    )
    page.locator("#vga").click()
    page.wait_for_function("() => document.pointerLockElement?.id === 'vga'")
    page.mouse.move(300, 300)
    page.mouse.move(340, 320, steps=4)
    page.mouse.down()
    page.mouse.up()
    page.keyboard.press("Control+Shift+L")
    page.wait_for_function("() => document.pointerLockElement === null")
    # A PS/2 mouse's three bytes: the buttons in the lowest bits of the first, then to the right, then up.
    packets = [
        [int(part) for part in line.split()] for line in console.run("sleep 1; cat /root/mouse").splitlines()
    ]
    assert any(right > 0 > up for _, right, up in packets), packets
    assert {packet[0] & 1 for packet in packets} == {0, 1}, packets


def test_graphics_are_shown_and_are_the_picture_of_a_save(service: Service, profiles: Profiles) -> None:
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("graphics"))
    console = start_machine(page, service.url, STARTER)
    coded = base64.b64encode(GRAPHICS.encode()).decode()
    console.run(f"echo {coded} | base64 -d > draw.py")
    assert console.run("python3 draw.py") == "drawn"
    open_screen(page)
    expect(page.locator("#vga")).to_have_class("graphics")
    corners = {(10, 10): (255, 0, 0), (310, 10): (0, 255, 0), (10, 190): (0, 0, 255)}
    for (x, y), colour in {**corners, (310, 190): (255, 255, 255)}.items():
        eventually(lambda: near(page.evaluate(PIXEL, [x, y]), colour), 10, f"{colour} at {x}, {y}")  # noqa: B023 - called at once
    saved = console.save("a picture")
    picture = page.request.get(
        f"{service.url}/api/v1/snapshots/{saved['snapshot']}/thumbnail", headers=csrf_headers(page)
    )
    assert picture.ok
    colours = page.evaluate(
        """async (bytes) => {
          const bitmap = await createImageBitmap(new Blob([Uint8Array.from(bytes)]));
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          const context = canvas.getContext("2d");
          context.drawImage(bitmap, 0, 0);
          const at = (x, y) => [...context.getImageData(x * bitmap.width, y * bitmap.height, 1, 1).data];
          return [at(0.25, 0.25), at(0.75, 0.25), at(0.25, 0.75)];
        }""",
        list(picture.body()),
    )
    for found, colour in zip(colours, corners.values(), strict=True):
        assert near(found, colour), colours
    assert Console(page).state == "running"


def type_on_pc(page: Page, text: str) -> None:
    """As on a US keyboard: the browser's own typing would leave out the Shift key."""
    shifted = {":": "Semicolon", "{": "BracketLeft", "}": "BracketRight", "~": "Backquote", ">": "Period"}
    for character in text:
        if character.isupper() or character in shifted:
            page.keyboard.press(f"Shift+{shifted.get(character, f'Key{character}')}", delay=20)
        else:
            page.keyboard.type(character, delay=20)


def near(found: list[int], colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 24 for a, b in zip(found, colour, strict=False))

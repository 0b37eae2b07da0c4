"""A recipe is checked in full before anything is fetched, and a mistake is named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.images.errors import BadRecipe
from storage.images.recipe import BASE_CMDLINE, LinuxSettings, PcSettings, Recipe, RecipeFile, parse_recipe

IMAGES = Path(__file__).parents[2] / "images"

SMALL = """
slug = "small"
title = "Small"
suite = "bookworm"
packages = ["linux-image-686"]
[boot]
prompt = "# "
"""


LINUX = SMALL.replace('suite = "bookworm"', 'machine = "linux"\nsuite = "bookworm"')


def pc_settings(recipe: Recipe) -> PcSettings:
    assert isinstance(recipe.settings, PcSettings)
    return recipe.settings


def test_it_works() -> None:
    recipe = parse_recipe((IMAGES / "starter.toml").read_text())
    assert recipe.slug == "starter"
    assert {"gcc", "vim", "python3", "linux-image-686"} <= set(recipe.packages)
    assert recipe.settings.memory_mib == 256
    assert pc_settings(recipe).cmdline.startswith("console=ttyS0 root=/dev/sda")
    assert recipe.commands()[0] == "/usr/lib/webvm/configure"
    assert recipe.machine().keys() == {"kind", "memory_mib", "vga_memory_mib", "cmdline"}


def test_a_recipe_for_our_own_engine_has_no_kernel() -> None:
    recipe = parse_recipe((IMAGES / "starter-64.toml").read_text())
    assert (recipe.slug, recipe.kind, recipe.architecture) == ("starter-64", "linux", "amd64")
    assert not [name for name in recipe.packages if name.startswith("linux-image")]
    assert recipe.machine() == {"kind": "linux", "memory_mib": 512, "terminals": 4}


def test_what_is_left_out_has_a_default() -> None:
    recipe = parse_recipe(SMALL)
    assert (recipe.kind, recipe.architecture) == ("pc", "i386")
    assert (recipe.description, recipe.files) == ("", ())
    assert (recipe.settings.memory_mib, recipe.settings.hostname) == (256, "webvm")
    assert pc_settings(recipe).cmdline == BASE_CMDLINE
    linux = parse_recipe(LINUX)
    assert (linux.architecture, linux.settings) == ("amd64", LinuxSettings(256, 2048, "webvm", 4))


def test_files_commands_and_kernel_options_are_read() -> None:
    recipe = parse_recipe(
        SMALL
        + """configure = ["true"]
settle = ["sync"]
rehearse = ["make --version"]
[settings]
cmdline = "quiet"
[[files]]
path = "//etc/./motd"
content = "Hello\\n"
mode = "0600"
owner = "1000:100"
"""
    )
    assert recipe.files == (RecipeFile("/etc/motd", "Hello\n", 0o600, 1000, 100),)
    assert recipe.commands() == ["/usr/lib/webvm/configure", "true"]
    assert recipe.settle == ("sync",)
    assert recipe.rehearse == ("make --version",)
    assert pc_settings(recipe).cmdline.endswith(" quiet")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('slug = "small"', "", "slug"),
        ('slug = "small"', 'slug = "Not a slug"', "slug"),
        ('slug = "small"', 'slug = "../etc"', "slug"),
        ('title = "Small"', "title = 3", "title"),
        ('title = "Small"', 'title = " "', "title"),
        ('suite = "bookworm"', 'suite = "book/worm"', "suite"),
        ('suite = "bookworm"', 'suite = "bookworm"\narchitecture = "amd64"', "architecture"),
        ('suite = "bookworm"', 'suite = "bookworm"\nmachine = "vax"', "machine"),
        ('packages = ["linux-image-686"]', 'packages = "gcc"', "packages"),
        ('packages = ["linux-image-686"]', 'packages = ["gcc; rm -rf /"]', "packages"),
        ('packages = ["linux-image-686"]', "packages = [1]", "packages"),
        ('suite = "bookworm"', 'suite = "bookworm"\nexclude = ["usr"]', "exclude"),
        ('suite = "bookworm"', 'suite = "bookworm"\nsuites = 1', "suites"),
        ('prompt = "# "', "", "boot.prompt"),
        ('prompt = "# "', 'prompt = "("', "boot.prompt"),
        ('prompt = "# "', 'prompt = "#"\ntimeout_s = 1', "boot.timeout_s"),
        ("[boot]", "[settings]\nmemory_mib = 4096\n[boot]", "settings.memory_mib"),
        ("[boot]", "[settings]\nmemory_mib = true\n[boot]", "settings.memory_mib"),
        ("[boot]", '[settings]\nhostname = "a b"\n[boot]', "settings.hostname"),
        ("[boot]", '[settings]\ncmdline = "a\\nb"\n[boot]', "settings.cmdline"),
        ("[boot]", "[settings]\ndisk = 1\n[boot]", "settings.disk"),
        ("[boot]", "[settings]\nterminals = 2\n[boot]", "settings.terminals"),
        ("[boot]", '[[files]]\npath = "/../x"\ncontent = ""\n[boot]', "files[0].path"),
        ("[boot]", '[[files]]\npath = "x"\ncontent = ""\n[boot]', "files[0].path"),
        ("[boot]", '[[files]]\npath = "/"\ncontent = ""\n[boot]', "files[0].path"),
        ("[boot]", '[[files]]\npath = "/x"\n[boot]', "files[0].content"),
        ("[boot]", '[[files]]\npath = "/x"\ncontent = ""\nmode = "rw"\n[boot]', "files[0].mode"),
        ("[boot]", '[[files]]\npath = "/x"\ncontent = ""\nowner = "root"\n[boot]', "files[0].owner"),
    ],
)
def test_a_mistake_is_named_by_its_key(old: str, new: str, key: str) -> None:
    assert old in SMALL
    with pytest.raises(BadRecipe) as caught:
        parse_recipe(SMALL.replace(old, new))
    assert caught.value.details["key"] == key
    assert repr(key) in caught.value.text


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("vga_memory_mib = 2", "settings.vga_memory_mib"),
        ('cmdline = "quiet"', "settings.cmdline"),
        ("terminals = 0", "settings.terminals"),
        ("terminals = 17", "settings.terminals"),
    ],
)
def test_a_machine_has_its_own_settings(setting: str, key: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        parse_recipe(f"{LINUX}\n[settings]\n{setting}\n")
    assert caught.value.details["key"] == key


def test_the_architecture_is_the_machines() -> None:
    assert parse_recipe(LINUX.replace("[boot]", 'architecture = "amd64"\n[boot]')).architecture == "amd64"
    with pytest.raises(BadRecipe, match="'amd64' for the machine 'linux'"):
        parse_recipe(LINUX.replace("[boot]", 'architecture = "i386"\n[boot]'))


def test_what_is_no_toml_or_too_long_is_refused() -> None:
    with pytest.raises(BadRecipe, match="not valid TOML"):
        parse_recipe("slug = [")
    with pytest.raises(BadRecipe, match="larger than"):
        parse_recipe("#" * (1 << 20) + SMALL)

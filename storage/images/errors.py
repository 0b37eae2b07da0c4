"""What can go wrong between a recipe and a disk image."""

from __future__ import annotations

from webvm.errors import WebVMError


class ImageBuildError(WebVMError):
    """Base of the errors of making a disk image."""

    code = "image_build_failed"
    status = 422
    message = "The disk image could not be made."


class BadRecipe(ImageBuildError):
    code = "bad_recipe"
    message = "The recipe is not valid."


class MirrorUnreachable(ImageBuildError):
    code = "mirror_unreachable"
    status = 502
    message = "The Debian mirror could not be reached. Check the network, or set another mirror."


class MirrorUntrusted(ImageBuildError):
    code = "mirror_untrusted"
    status = 502
    message = "What the Debian mirror sent does not carry a valid signature or digest. Set another mirror."


class MirrorInconsistent(ImageBuildError):
    code = "mirror_inconsistent"
    status = 502
    message = "The Debian mirror's files do not fit together: try later, or set another mirror."


class PackagesUnresolved(ImageBuildError):
    code = "packages_unresolved"
    message = "A package of the recipe, or one that it needs, is not in the suite."


class BadPackage(ImageBuildError):
    code = "bad_package"
    message = "A package is not a valid Debian package."


class ProgramNotCompiled(ImageBuildError):
    code = "program_not_compiled"
    status = 500
    message = "A program of the guest could not be compiled. Install what pyproject.toml names: `uv sync`."


class BadTree(ImageBuildError):
    code = "bad_tree"
    message = "The files of the image contradict each other."


class DiskTooSmall(ImageBuildError):
    code = "disk_too_small"
    message = "The files do not fit on the disk. Give the recipe a larger disk_mib."

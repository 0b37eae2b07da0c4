"""From a recipe to a bootable disk image: pure Python, no root, no mount, any Unix host. See
docs/design/guest.md.
"""

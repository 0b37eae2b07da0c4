"""Which block of an ext4 image holds what: groups, their metadata, and the blocks between, in order."""

from __future__ import annotations

from storage.images.errors import DiskTooSmall

BLOCK = 4096
GROUP_BLOCKS = 8 * BLOCK  # what one bitmap block covers
INODE_SIZE = 256
BYTES_PER_INODE = 16384
INODES_PER_BLOCK = BLOCK // INODE_SIZE
DESCRIPTOR = 32
MAX_EXTENT = 32768

Extent = tuple[int, int]  # first block, count


class Layout:
    """Where things are: groups, their metadata, and a cursor that hands out the blocks between."""

    def __init__(self, blocks: int, inodes_wanted: int) -> None:
        self.blocks = blocks
        self.groups = -(-blocks // GROUP_BLOCKS)
        if self.blocks - (self.groups - 1) * GROUP_BLOCKS < 64 and self.groups > 1:
            # A last group too small for its own superblock copy is left unused, as mke2fs does.
            self.groups -= 1
            self.blocks = self.groups * GROUP_BLOCKS
        inodes = max(blocks * BLOCK // BYTES_PER_INODE, inodes_wanted + inodes_wanted // 4)
        per_group = -(-inodes // self.groups)
        self.inodes_per_group = min(-(-per_group // INODES_PER_BLOCK) * INODES_PER_BLOCK, 8 * BLOCK)
        self.inodes = self.inodes_per_group * self.groups
        if inodes_wanted > self.inodes:
            raise DiskTooSmall(
                "There are more files than the disk has inodes for. Give the recipe a larger disk_mib."
            )
        self.table_blocks = self.inodes_per_group // INODES_PER_BLOCK
        self.descriptor_blocks = -(-self.groups * DESCRIPTOR // BLOCK)
        self.used = bytearray(-(-self.blocks // 8) + BLOCK)
        for group in range(self.groups):
            if self.has_superblock(group):
                self._mark(group * GROUP_BLOCKS, 1 + self.descriptor_blocks)
        self._cursor = 0
        self.block_bitmaps = [self.take_run(1) for _ in range(self.groups)]
        self.inode_bitmaps = [self.take_run(1) for _ in range(self.groups)]
        self.tables = [self.take_run(self.table_blocks) for _ in range(self.groups)]

    @staticmethod
    def has_superblock(group: int) -> bool:
        """The rule of `sparse_super`: groups 0, 1 and the powers of 3, 5 and 7."""
        if group <= 1:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    def _mark(self, first: int, count: int) -> None:
        for block in range(first, first + count):
            self.used[block >> 3] |= 1 << (block & 7)

    def _is_used(self, block: int) -> bool:
        return bool(self.used[block >> 3] & 1 << (block & 7))

    def _next_hole(self, start: int) -> int:
        """The first block from `start` on that a superblock copy occupies."""
        group = -(-start // GROUP_BLOCKS)
        while group < self.groups and not self.has_superblock(group):
            group += 1
        return group * GROUP_BLOCKS if group < self.groups else self.blocks

    def take(self, count: int) -> list[Extent]:
        """The next `count` free blocks in order, as extents."""
        extents: list[Extent] = []
        while count > 0:
            while self._cursor < self.blocks and self._is_used(self._cursor):
                self._cursor += 1
            run = min(count, MAX_EXTENT, self._next_hole(self._cursor) - self._cursor)
            if run <= 0:
                raise DiskTooSmall
            self._mark(self._cursor, run)
            extents.append((self._cursor, run))
            self._cursor += run
            count -= run
        return extents

    def take_run(self, count: int) -> int:
        """The next `count` blocks that lie together (an inode table may not be split); what is skipped stays
        free.
        """
        while True:
            while self._cursor < self.blocks and self._is_used(self._cursor):
                self._cursor += 1
            hole = self._next_hole(self._cursor)
            if hole - self._cursor >= count:
                break
            if hole >= self.blocks:
                raise DiskTooSmall
            self._cursor = hole
        first = self._cursor
        self._mark(first, count)
        self._cursor += count
        return first

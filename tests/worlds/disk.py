"""A small world of files, as a power cut shows it: the Disk port over a page cache and a platter, which are two things.

Reads see the cache. A sync brings a file's bytes, or a folder's names, to the platter. A power cut loses what is not there: of the bytes
any sectors, of the names any changes (a rename is one). A sync of bytes that fails forgets what it was to write: it is read until the cut,
and no later sync writes it (as Linux has it since 4.13). Names that a sync failed to write still wait: a journal tries again, or ends all
writing. A file that is made is not named durably by its own sync, which POSIX does not promise either.

Processes share one machine: their locks and files are their own and end with them. After its death, or a cut, each call of one raises.
"""

import errno
import fcntl
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.stores.disk import Entry

SECTOR_BYTES = 512  # what is written at once, or not at all


@dataclass(eq=False)
class Node:
    """A file, or a folder with `names`. Each has what is seen, and what is on the platter (`kept`)."""

    is_folder: bool
    data: bytearray = field(default_factory=bytearray)
    kept: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)  # sectors that the next sync is to write
    names: dict[str, "Node"] = field(default_factory=dict)
    kept_names: dict[str, "Node"] = field(default_factory=dict)
    changes: list[dict[str, "Node | None"]] = field(default_factory=list)  # of names, since the last sync
    links: int = 0
    locks: dict["Opened", int] = field(default_factory=dict)

    def write(self, data: memoryview, offset: int) -> range:
        """The sectors that it went to."""
        end = offset + len(data)
        if end > len(self.data):
            self.resize(end)
        self.data[offset:end] = data
        sectors = range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES))
        self.dirty.update(sectors)
        return sectors

    def resize(self, size: int) -> None:
        ends = sorted((size, len(self.data)))
        self.dirty.update(range(ends[0] // SECTOR_BYTES, -(-ends[1] // SECTOR_BYTES)))
        _fit(self.data, size)

    def sync(self, sectors: range | None = None) -> None:
        _fit(self.kept, len(self.data))
        written = self.dirty if sectors is None else self.dirty.intersection(sectors)
        self._bring(written)
        self.dirty = self.dirty - written
        self.kept_names = dict(self.names)
        self.changes = []

    def fail(self, rng: random.Random, sectors: range | None = None) -> None:
        """A sync that fails: some of it may have been written, and none of it will be."""
        lost = self.dirty if sectors is None else self.dirty.intersection(sectors)
        self._bring({sector for sector in lost if rng.random() < 0.5})
        self.dirty = self.dirty - lost

    def change(self, names: dict[str, "Node | None"]) -> None:
        self.changes.append(names)
        _apply(self.names, names)

    def cut(self, rng: random.Random) -> None:
        """The power was cut: what is seen from now on is what the platter has."""
        size = rng.choice((len(self.data), len(self.kept)))
        _fit(self.kept, size)
        self._bring({sector for sector in self.dirty if rng.random() < 0.5})
        self.data, self.kept, self.dirty = self.kept, bytearray(self.kept), set()
        for change in self.changes:
            if rng.random() < 0.5:
                _apply(self.kept_names, change)
        self.names, self.changes = dict(self.kept_names), []
        self.links, self.locks = 0, {}

    def _bring(self, sectors: set[int]) -> None:
        for sector in sectors:
            at = slice(
                sector * SECTOR_BYTES, min((sector + 1) * SECTOR_BYTES, len(self.kept), len(self.data))
            )
            if at.start < at.stop:
                self.kept[at] = self.data[at]


@dataclass(eq=False)
class Opened:
    node: Node
    is_past_cache: bool = False


class DiskWorld:
    """The machine. `judge` says for each call, by its name, with which errno it fails; "create" is an open that may make a file."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.turn = threading.Condition()
        self.judge: Callable[[str], int | None] = lambda _: None
        self.cut_at: int | None = (
            None  # the number of the call at which the power is cut, before its effect or behind it
        )
        self.calls = 0
        self.hanging: frozenset[str] = frozenset()  # calls that do not come back
        self.hung = threading.Event()  # one does not
        self.takes_past_cache = True  # else O_DIRECT is refused, as by some filesystems
        self.syncs_lie = False  # then a sync does nothing, and says that it did
        self.root = Node(is_folder=True)
        self._processes: list[MemoryDisk] = []

    def process(self) -> "MemoryDisk":
        with self.turn:
            self._processes.append(MemoryDisk(self))
            return self._processes[-1]

    def hang(self, *calls: str) -> None:
        """Until `hang()`."""
        with self.turn:
            self.hanging = frozenset(calls)
            self.hung.clear()
            self.turn.notify_all()

    def cut(self) -> None:
        """The power: every process dies, and what was not synced may be gone."""
        with self.turn:
            for process in list(self._processes):
                process.die()
            self.hanging, self.cut_at = frozenset(), None
            seen: set[Node] = set()
            folders = [self.root]
            self.root.cut(self.rng)
            while folders:
                for node in folders.pop().names.values():
                    if node not in seen:
                        seen.add(node)
                        node.cut(self.rng)
                        folders.append(node)
                    node.links += 1

    def forget(self, process: "MemoryDisk") -> None:
        self._processes.remove(process)


class MemoryDisk:
    """The Disk of one process. Any thread may call it."""

    def __init__(self, world: DiskWorld) -> None:
        self._world = world
        self._opened: dict[int, Opened] = {}
        self._next = 3
        self.is_dead = False

    def die(self) -> None:
        """As by kill -9: its locks are free, and what it wrote is in the cache."""
        with self._world.turn:
            if not self.is_dead:
                self.is_dead = True
                for opened in self._opened.values():
                    opened.node.locks.pop(opened, None)
                self._opened.clear()
                self._world.forget(self)
                self._world.turn.notify_all()

    def open(self, path: Path, flags: int) -> int:
        with self._call("create" if flags & os.O_CREAT else "open"):
            folder, name = self._place(path)
            node = folder.names.get(name) if name else self._world.root
            if node is None:
                if not flags & os.O_CREAT:
                    raise _error(errno.ENOENT, path)
                node = Node(is_folder=False, links=1)
                folder.change({name: node})
            elif flags & os.O_EXCL:
                raise _error(errno.EEXIST, path)
            elif node.is_folder and flags & (os.O_RDWR | os.O_WRONLY):
                raise _error(errno.EISDIR, path)
            fd, self._next = self._next, self._next + 1
            self._opened[fd] = Opened(node)
            return fd

    def close(self, fd: int) -> None:
        with self._world.turn:
            opened = self._opened.pop(fd, None)
            if not self.is_dead:
                assert opened, "closed twice"
                opened.node.locks.pop(opened, None)
                self._world.turn.notify_all()

    def read(self, fd: int, most_bytes: int, offset: int) -> bytes:
        with self._call("read"):
            return bytes(self._opened[fd].node.data[offset : offset + most_bytes])

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        with self._call("write"):
            self._opened[fd].node.write(data, offset)
            return len(data)

    def write_through(self, fd: int, data: memoryview, offset: int) -> int:
        def fail() -> None:
            sectors = node.write(data, offset)
            node.fail(self._world.rng, sectors)
            if opened.is_past_cache:  # nothing of it is in the cache
                _copy(node.kept, node.data, sectors)

        with self._world.turn:
            self._alive()
            opened = self._opened[fd]
            node = opened.node
            if opened.is_past_cache and (offset % SECTOR_BYTES or len(data) % SECTOR_BYTES):
                raise _error(errno.EINVAL)
            with self._call("write_through", fail):
                sectors = node.write(data, offset)
                if not self._world.syncs_lie:
                    node.sync(sectors)
                return len(data)

    def sync(self, fd: int) -> None:
        self._sync("sync", fd)

    def sync_data(self, fd: int) -> None:
        self._sync("sync_data", fd)

    def _sync(self, name: str, fd: int) -> None:
        with self._call(name, lambda: self._opened[fd].node.fail(self._world.rng)):
            if not self._world.syncs_lie:
                self._opened[fd].node.sync()

    def truncate(self, fd: int, size_bytes: int) -> None:
        with self._call("truncate"):
            self._opened[fd].node.resize(size_bytes)

    def links(self, fd: int) -> int:
        with self._call("links"):
            return self._opened[fd].node.links

    def past_cache(self, fd: int, *, wanted: bool) -> None:
        with self._call("past_cache"):
            if wanted and not self._world.takes_past_cache:
                raise _error(errno.EINVAL)
            self._opened[fd].is_past_cache = wanted

    def lock(self, fd: int, how: int) -> bool:
        with self._call("lock"):
            opened = self._opened[fd]
            locks = opened.node.locks
            is_alone = bool(how & fcntl.LOCK_EX)

            def is_free() -> bool:
                others = [held for by, held in locks.items() if by is not opened]
                return not others or not (is_alone or fcntl.LOCK_EX in others)

            if not is_free():
                if how & fcntl.LOCK_NB:
                    return False
                self._world.turn.wait_for(lambda: self.is_dead or is_free())
                self._alive()
            locks[opened] = fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH
            return True

    def make_folder(self, path: Path) -> bool:
        with self._call("make_folder"):
            folder, name = self._place(path)
            if not name or name in folder.names:
                return False
            folder.change({name: Node(is_folder=True, links=1)})
            return True

    def remove_folder(self, path: Path) -> None:
        with self._call("remove_folder"):
            folder, name = self._place(path)
            if self._node(path).names:
                raise _error(errno.ENOTEMPTY, path)
            folder.change({name: None})

    def exists(self, path: Path) -> bool:
        with self._call("exists"):
            try:
                self._node(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def entries(self, folder: Path) -> Iterator[Entry]:
        with self._call("entries"):
            found = [Entry(name, node.is_folder) for name, node in self._node(folder).names.items()]
        yield from found

    def rename(self, path: Path, to: Path) -> None:
        assert path.parent == to.parent, "a rename from folder to folder is not in this world"
        with self._call("rename"):
            folder, node = self._place(path)[0], self._node(path)
            folder.change({path.name: None, to.name: node})

    def link(self, path: Path, to: Path) -> None:
        with self._call("link"):
            node = self._node(path)
            folder, name = self._place(to)
            if name in folder.names:
                raise _error(errno.EEXIST, to)
            folder.change({name: node})
            node.links += 1

    def unlink(self, path: Path) -> None:
        with self._call("unlink"):
            node = self._node(path)
            if node.is_folder:
                raise _error(errno.EISDIR, path)
            self._place(path)[0].change({path.name: None})
            node.links -= 1

    @contextmanager
    def _call(self, name: str, fail: Callable[[], None] = lambda: None) -> Iterator[None]:
        """One call, alone in the world. `fail`: what an error leaves behind."""
        world = self._world
        with world.turn:
            self._alive()
            if name in world.hanging:
                world.hung.set()
                world.turn.wait_for(lambda: self.is_dead or name not in world.hanging)
                self._alive()
            world.calls += 1
            is_last = world.calls == world.cut_at
            if is_last and world.rng.random() < 0.5:
                fail()
                world.cut()
                self._alive()
            if code := world.judge(name):
                fail()
                raise _error(code)
            yield
            if is_last:
                world.cut()
                self._alive()

    def _alive(self) -> None:
        if self.is_dead:
            raise OSError(errno.EIO, "its process is dead")

    def _node(self, path: Path) -> Node:
        node = self._world.root
        for part in path.parts[1:]:
            if not node.is_folder:
                raise _error(errno.ENOTDIR, path)
            if part not in node.names:
                raise _error(errno.ENOENT, path)
            node = node.names[part]
        return node

    def _place(self, path: Path) -> tuple[Node, str]:
        """The folder that has the name, or would have it."""
        folder = self._node(path.parent)
        if not folder.is_folder:
            raise _error(errno.ENOTDIR, path)
        return folder, path.name


def _fit(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def _copy(source: bytearray, to: bytearray, sectors: range) -> None:
    for sector in sectors:
        at = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
        to[at] = source[at].ljust(len(to[at]), b"\0")


def _apply(names: dict[str, Node], change: dict[str, "Node | None"]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _error(code: int, path: Path | None = None) -> OSError:
    return OSError(code, os.strerror(code), *([str(path)] if path else []))

"""Blocks, warps or lanes that run by turns, so that those that wait let the others on. Unit 3.4.

All threads together is the quick way, and a lock or a flag may stop it (`waiting`). Then the
launch begins anew, and each group of lanes runs in a Python thread of its own, one at a time: the
blocks first, then, if that is not enough, the warps, then the single lanes. What is modelled is
what CUDA promises: blocks that are on the device get on independently, in any order, and so do the
warps of a block and, since Volta, the lanes of a warp; a block that is not yet there waits for one
that ends. Every store is seen at once, by all. Lanes of a warp that never wait for each other
advance together, as they mostly do on a GPU; so the counters of a launch that ran by lanes are
those of a warp that never comes together again.

A group runs until it waits: at a barrier, or in a loop whose end depends on memory and whose
rounds change nothing. It goes on when the barrier ends, or when somebody has changed memory. When
no group can go on, there is a deadlock: who waits where, and for what, is told.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counters.observing import ObservedMachine, Observer
from ..devices import get_current_device, sm_limits
from ..errors import UnsupportedFeature
from ..lanes.launching import Launch, Line
from ..lanes.mask import WARP_SIZE, Mask
from .waiting import Waiter, Waits, deadlock

if TYPE_CHECKING:
    from ..lanes.loops import Loop
    from ..lanes.protocol import Function

GRID = "this_grid().sync"  # the barrier that all blocks wait at
MOST_GROUPS = 1 << 14  # that a launch is split into, when all groups become smaller
MOST_ATTEMPTS = 40
Place = tuple[int, int, int]  # of a group: block, its first lane there, how many lanes
TURN = 64  # rounds of a loop that may wait, until the others have a turn


def by_turns(
    function: Function,
    launch: Launch,
    values: list[Any],
    observers: Sequence[Observer],
    anew: Callable[[], None],
    seed: int | None = None,
    most: int | None = None,
) -> None:
    """Run a launch by groups of lanes, smaller and smaller ones, until it gets on.

    `anew()` brings the launch back to its beginning. seed: draw who comes next; without it all come
    in order. most: lanes of the largest groups.
    """
    ways = sizes(launch, most)
    threads = launch.threads_per_block * math.prod(launch.grid)
    finer: set[Place] = set()  # groups that are split further, where not all can be
    for _ in range(MOST_ATTEMPTS):
        draw = None if seed is None else random.Random(seed)
        try:
            Residents(launch, observers, ways, finer, draw).run(function, values)
            return
        except Waits as stuck:
            anew()
            launch.waited = True
            smaller = ways[1:]
            if smaller and threads // smaller[0] <= MOST_GROUPS:
                ways = smaller
            else:
                finer.update(stuck.args[0])
    raise UnsupportedFeature(
        f"{launch.kernel} has threads of one warp that wait for each other, in a launch of "
        f"{threads:,} threads",
        f"the emulator runs such threads one by one, and no more than {MOST_GROUPS:,} of them; a "
        "GPU would get on, slowly",
        "launch fewer threads, or let one thread of each block (threadIdx.x == 0) wait",
    )


def sizes(launch: Launch, most: int | None = None) -> list[int]:
    """How many lanes a group has: those of a block, of a warp, or one."""
    if launch.threads_per_block == 1:
        return [1]
    ways = dict.fromkeys([launch.lanes_per_block, WARP_SIZE, 1])
    return [n for n in ways if most is None or n <= most]


def resident_blocks(launch: Launch) -> int:
    """How many blocks the device holds at once, by their threads and dynamic shared memory."""
    device = get_current_device()
    sm = sm_limits(".".join(map(str, device.compute_capability)))
    warps = launch.lanes_per_block // WARP_SIZE
    held = min(sm.max_blocks, sm.max_warps // warps)
    if launch.shared:
        held = min(held, sm.shared_memory // (launch.shared + sm.shared_memory_reserved))
    return max(held, 1) * device.multiprocessors


@dataclass
class Barrier:
    """Where a group waits: which of its lanes have come, and what each brings."""

    mask: Mask
    line: Line
    name: str
    values: tuple[Any, ...]
    members: np.ndarray | None = None  # bool [L], of a warp's barrier: the lanes that it names

    @property
    def at(self) -> tuple[Line, str]:
        """Groups of one block must wait at the same line of the same kind."""
        return self.line, self.name


@dataclass
class Meeting:
    """Groups that a barrier lets go together, as those of one block see it."""

    lanes: np.ndarray  # bool [L]: all of the block that came
    values: tuple[Any, ...] = ()  # what they brought
    told: list[bool] = field(default_factory=list)  # whether the observers know; for all who met

    def tells(self) -> bool:
        """Whether whoever asks is the first, who tells the observers."""
        self.told.append(True)
        return len(self.told) == 1


@dataclass
class Spin:
    """A loop that a group goes round in: it was seen that memory had changed so often."""

    waiter: Waiter
    changes: int
    for_ever: bool  # until memory changes; else the loop has an end of its own
    some: bool  # only some of the group's lanes go round


class Block:
    """A block on the device: the machine that the observers know, and the groups that run it."""

    def __init__(self, machine: ObservedMachine):
        self.machine = machine
        self.groups: list[Group] = []  # those that have not ended
        self.waiting = 0  # of them at a barrier


class Residents:
    """The blocks that are on the device, and the groups of lanes that run them by turns.

    ways: lanes of a group, and of a smaller one. finer: groups that are split into smaller ones.
    draw: chooses who comes next; without it, all in order.
    """

    def __init__(
        self,
        launch: Launch,
        observers: Sequence[Observer],
        ways: list[int],
        finer: Collection[Place] = (),
        draw: random.Random | None = None,
    ):
        self.launch, self.observers, self.ways = launch, tuple(observers), ways
        self.finer, self.draw = finer, draw
        self.stopped, self.changes = False, 0
        self.blocks: list[Block] = []
        self.ready: list[Group] = []  # groups that can go on
        self.asleep: list[Group] = []  # groups that go round until memory changes
        self.turns = 0  # since those asleep were last looked at
        self.shown: ObservedMachine | None = None  # what the observers look at
        self.to_come = self._order()

    def _order(self) -> list[int]:
        """The blocks in the order in which they come, the next one last."""
        total = math.prod(self.launch.grid)
        self.most = total if self.launch.cooperative else 1  # blocks that are there at once
        if self.launch.may_wait and not self.launch.cooperative:
            self.most = resident_blocks(self.launch)
        order = list(range(total))
        if self.draw is not None:  # in any order, among those that may be there together
            at_once = self.most if self.most > 1 else total
            for first in range(0, total, at_once):
                part = order[first : first + at_once]
                order[first : first + at_once] = self.draw.sample(part, len(part))
        return order[::-1]

    # --- who runs ------------------------------------------------------------------------

    def run(self, function: Function, values: list[Any]) -> None:
        """Run the launch to its end. Raises the first error of a group, or `Deadlock`."""
        self.function, self.values = function, values
        try:
            while self.blocks or self.to_come:
                group = self._next()
                self._show(group.block.machine)
                group.resume()
                if group.error is not None:
                    raise group.error
                self._sort(group)
        finally:
            self.stopped = True  # a group that is resumed now ends at once
            for block in self.blocks:
                for group in block.groups:
                    group.resume()

    @property
    def room(self) -> bool:
        """Whether another block may come to the device."""
        return bool(self.to_come) and len(self.blocks) < self.most

    def _next(self) -> Group:
        """The group whose turn it is."""
        self.turns += 1
        if self.room and (self.turns > len(self.ready) or self._drawn()):
            self._start()
        if not self.ready or self.turns > len(self.ready):
            self._wake()
        if not self.ready:  # but for those whose loop has an end of its own, none can go on
            self.ready = [g for g in self.asleep if not g.spin.for_ever]
            self.asleep = [g for g in self.asleep if g.spin.for_ever]
        if not self.ready:
            self._nobody()
        return self.ready.pop(self.draw.randrange(len(self.ready)) if self.draw else 0)

    def _drawn(self) -> bool:
        """Whether a new block is drawn, as one more among those that can go on."""
        return self.draw is not None and self.draw.randrange(1 + len(self.ready)) == 0

    def _wake(self) -> None:
        """Whoever waits for a change of memory looks again, if there was one."""
        self.turns = 0
        self.ready += [g for g in self.asleep if g.spin.changes != self.changes]
        self.asleep = [g for g in self.asleep if g.spin.changes == self.changes]

    def _start(self) -> None:
        """The next block comes to the device."""
        machine = ObservedMachine(self.launch, self.to_come.pop(), 1, self.observers)
        self.shown = machine
        block = Block(machine)
        for first, lanes in self._parts(machine.first, 0, self.launch.lanes_per_block):
            if machine.all.lanes[first : first + lanes].any():
                block.groups.append(Group(self, block, first, lanes))
        self.blocks.append(block)
        self.ready += block.groups

    def _parts(self, block: int, first: int, lanes: int) -> Iterator[tuple[int, int]]:
        """The groups of a block, from its lane `first` on: first lane and number of lanes."""
        if lanes <= self.ways[0] and (block, first, lanes) not in self.finer:
            yield first, lanes
            return
        smaller = WARP_SIZE if lanes > WARP_SIZE else 1
        for k in range(first, first + lanes, smaller):
            yield from self._parts(block, k, smaller)

    def _show(self, machine: ObservedMachine) -> None:
        if machine is not self.shown:
            self.shown = machine
            for observer in self.observers:
                observer.resume(machine)

    def _sort(self, group: Group) -> None:
        """Where a group belongs that has just run."""
        block = group.block
        if group.done:
            block.groups.remove(group)
            if not block.groups:
                self.blocks.remove(block)
            elif block.waiting:  # who has ended is not waited for
                self._let_go(next(g for g in block.groups if g.waits_at is not None))
        elif group.waits_at is not None:
            block.waiting += 1
            self._let_go(group)
        else:
            (self.ready if group.spin is None else self.asleep).append(group)

    def _nobody(self) -> None:
        """Nobody can go on. Either smaller groups can, or a barrier is at fault, or all wait."""
        groups = [g for block in self.blocks for g in block.groups]
        some = [g.at for g in groups if g.spin is not None and g.spin.some]
        if some:
            raise Waits(some)
        if all(g.spin is None for g in groups):
            # some wait at one barrier and some at another: one goes on, so that the barrier tells
            self._meet([self.draw.choice(groups) if self.draw else groups[0]])
            return
        waiters = [g.spin.waiter for g in groups if g.spin is not None]
        waiters += [g.at_barrier() for g in groups if g.waits_at is not None]
        more = ""
        if self.to_come:
            number = len(self.to_come)
            more = (
                f"{number:,} more {'block has' if number == 1 else 'blocks have'} not begun: "
                f"{get_current_device().name} holds {len(self.blocks):,} of this size at once, and "
                "the next begins when one ends"
            )
        raise deadlock(waiters, more)

    # --- barriers ------------------------------------------------------------------------

    def _let_go(self, group: Group) -> None:
        """End the barrier that `group` waits at, if all have come to it."""
        barrier, blocks = group.waits_at, [group.block]
        if barrier.members is not None:
            scope = [g for g in group.block.groups if (barrier.members & g.lanes).any()]
        else:
            if barrier.name == GRID:
                blocks = self.blocks
                if self.to_come:
                    return
            if any(block.waiting < len(block.groups) for block in blocks):
                return
            scope = [g for block in blocks for g in block.groups]
        if all(g.waits_at is not None and g.waits_at.at == barrier.at for g in scope):
            self._meet(scope)

    def _meet(self, groups: list[Group]) -> None:
        """These groups, which wait at one barrier, may go on."""
        told: list[bool] = []
        for block in dict.fromkeys(g.block for g in groups):
            own = [g for g in groups if g.block is block]
            came = [g.waits_at for g in own]
            lanes = np.logical_or.reduce([barrier.mask.lanes for barrier in came])
            values = came[0].values
            for barrier in came[1:]:  # each brings the values of its own lanes
                new = barrier.mask.lanes
                pairs = zip(barrier.values, values, strict=True)
                values = tuple(np.where(new, value, so_far) for value, so_far in pairs)
            for group in own:
                group.meeting, group.waits_at = Meeting(lanes, values, told), None
            block.waiting -= len(own)
        self.ready += groups


class _Stopped(BaseException):
    """Ends a group whose launch has failed elsewhere."""


def _closed() -> threading.Semaphore:
    return threading.Semaphore(0)


@dataclass(eq=False)
class Turn:
    """Hands the one right to run back and forth between the residents and a group."""

    go: threading.Semaphore = field(default_factory=_closed)
    back: threading.Semaphore = field(default_factory=_closed)


class Group(ObservedMachine):
    """Lanes of one block that advance together: the block's machine, with a mask of its own."""

    patience = 1
    by_turns = True

    def __init__(self, residents: Residents, block: Block, first: int, lanes: int):
        self.residents, self.block = residents, block
        machine = block.machine
        self.at: Place = (machine.first, first, lanes)
        changes = residents.changes
        super().__init__(machine.launch, machine.first, 1, ())
        residents.changes = changes  # which a new machine begins at 0
        self.observers = machine.observers
        self.arrays, self._indices = machine.arrays, machine._indices
        own = np.zeros(self.size, bool)
        own[first : first + lanes] = True
        self.lanes = self.all.lanes & own  # bool [L]
        self.watching = 1  # each store may be what another group waits for
        self.waits_at: Barrier | None = None
        self.meeting: Meeting | None = None
        self.spin: Spin | None = None
        self.done, self.error = False, None
        self.thread: threading.Thread | None = None
        self.turn = Turn()

    @property
    def alive(self) -> np.ndarray:
        """bool [L]: of the whole block, for a barrier asks who is missing."""
        return self.block.machine.alive

    @alive.setter
    def alive(self, lanes: np.ndarray) -> None:
        self.block.machine.alive = lanes

    @property
    def changes(self) -> int:
        """Changes of memory so far, of all groups together."""
        return self.residents.changes

    @changes.setter
    def changes(self, number: int) -> None:
        self.residents.changes = number

    # --- taking turns --------------------------------------------------------------------

    def resume(self) -> None:
        """Let the group run until it waits or ends. Called by the residents."""
        if self.done or (self.thread is None and self.residents.stopped):
            return
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, daemon=True)
            self.thread.start()
        if self.thread.is_alive():
            self.turn.go.release()
            self.turn.back.acquire()

    def _run(self) -> None:
        self.turn.go.acquire()
        residents = self.residents
        try:
            if not residents.stopped:
                with np.errstate(all="ignore"):
                    residents.function.run(self, Mask(self.lanes), residents.values)
            self.alive = self.alive & ~self.lanes
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self.turn.back.release()

    def _hand_over(self) -> None:
        self.turn.back.release()
        self.turn.go.acquire()
        if self.residents.stopped:
            raise _Stopped

    # --- waiting -------------------------------------------------------------------------

    def round(self, loop: Loop, mask: Mask) -> None:
        if loop.rounds % TURN == 0:
            self._hand_over()

    def spins(self, loop: Loop, mask: Mask, for_ever: bool) -> None:
        mine = int(np.count_nonzero(self.alive & self.lanes))
        waiter = self.waits_for(loop, mask)
        self.spin = Spin(waiter, self.changes, for_ever, mask.threads < mine)
        self._hand_over()
        self.spin = None

    def meet(self, mask: Mask, line: Line, name: str, value: Any = None) -> tuple[np.ndarray, Any]:
        if self.at[2] == self.size and name != GRID:  # the whole block is here
            self.meeting = Meeting(mask.lanes)
            return mask.lanes, value
        self.waits_at = Barrier(mask, line, name, () if value is None else (value,))
        self._hand_over()
        return self.meeting.lanes, None if value is None else self.meeting.values[0]

    def converge(
        self, mask: Mask, line: Line, name: str, members: Any, *values: Any
    ) -> tuple[Any, ...]:
        """Wait for the lanes of the warp that `members` names, where lanes run one by one."""
        if self.at[2] > 1:
            self.meeting = Meeting(mask.lanes)
            return mask, members, *values
        lane = int(np.argmax(mask.lanes))
        named = int(np.broadcast_to(members, (self.size,))[lane])
        warp = lane // WARP_SIZE * WARP_SIZE
        wanted = np.zeros(self.size, bool)
        wanted[warp : warp + WARP_SIZE] = [(named >> k) & 1 for k in range(WARP_SIZE)]
        brought = tuple(np.broadcast_to(v, (self.size,)) for v in (members, *values))
        self.waits_at = Barrier(mask, line, name, brought, wanted)
        self._hand_over()
        return Mask(self.meeting.lanes), *self.meeting.values

    def at_barrier(self) -> Waiter:
        """How the group waits at its barrier, for a message."""
        barrier = self.waits_at
        lane = int(np.argmax(barrier.mask.lanes))
        place = self.place(barrier.line, lane)
        return Waiter(place, barrier.mask.threads, barrier=barrier.name)

    # --- what all who met do is told once ---------------------------------------------------

    def barrier(self, mask: Mask, line: Line) -> None:
        if self.meeting.tells():
            super().barrier(Mask(self.meeting.lanes), line)

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        if self.meeting.tells():
            super().grid_barrier(mask, line)

    def warp_barrier(self, mask: Mask, line: Line, members: np.ndarray) -> None:
        if self.meeting.tells():
            super().warp_barrier(mask, line, members)

    def shuffle(
        self, mask: Mask, line: Line, name: str, here: np.ndarray, chosen: np.ndarray
    ) -> None:
        if self.meeting.tells():
            super().shuffle(mask, line, name, here, chosen)

"""Who computes how many tokens in the next step: continuous batching. Unit 4.3.

There are no prefill steps and decode steps: each sequence has known tokens that are not computed
yet, one if it decodes and many if its prompt has just come, and each step spends a budget of tokens
on them. Those that run come first, so that a long prompt is cut into chunks that fit beside them
(Agrawal et al., "Sarathi-Serve", arXiv:2403.02310). A sequence that ends makes room in the very
next step (Yu et al., "Orca", OSDI 2022).

Where the blocks give out, the sequence that came last gives its own back and waits; its tokens are
known, and are computed again later.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from .block_manager import BlockManager
from .errors import ServingError
from .sequence import Sequence, Status


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """Compute `tokens` tokens of `sequence` from `start` on; the last `drafts` are a draft."""

    sequence: Sequence
    start: int
    tokens: int
    drafts: int = 0
    all_logits: bool = False  # of every token, not of the last alone

    @property
    def rows(self) -> int:
        """Of how many of its last tokens the logits are wanted."""
        if self.all_logits:
            return self.tokens
        return self.drafts + 1 if self.gives_logits else 0

    @property
    def gives_logits(self) -> bool:
        """Whether it ends with the last known token, so that the next one can be chosen."""
        return self.start + self.tokens - self.drafts == len(self.sequence.token_ids)


@dataclass
class Plan:
    """One step. copies: (from, to) blocks to copy before anything is written."""

    work: list[ScheduledSequence] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that the step computes."""
        return sum(work.tokens for work in self.work)


class Scheduler:
    """Waiting and running sequences, and the plan of each step."""

    def __init__(
        self,
        blocks: BlockManager,
        max_tokens: int = 512,
        max_sequences: int = 256,
        chunked_prefill: bool = True,
        watermark: float = 0.01,
    ):
        if max_tokens < 1 or max_sequences < 1:
            raise ServingError(
                f"a step of {max_tokens} tokens and {max_sequences} sequences",
                "each step computes at least one token of one sequence",
                "1 or more of each",
            )
        self.blocks = blocks
        self.max_tokens, self.max_sequences = max_tokens, max_sequences
        self.chunked_prefill = chunked_prefill
        self.watermark = int(watermark * blocks.num_blocks)  # kept free when a new one is admitted
        self.waiting: list[Sequence] = []  # both in the order of `Sequence.order`
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn: a new one, or one that was preempted."""
        sequence.status = Status.WAITING
        bisect.insort(self.waiting, sequence, key=_turn)

    def run(self, sequence: Sequence) -> None:
        """Let a sequence run that has its blocks already: a fork, or one handed over."""
        sequence.status = Status.RUNNING
        bisect.insort(self.running, sequence, key=_order)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and its blocks back."""
        if sequence.status is Status.RUNNING:
            self.running.remove(sequence)
        elif sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
        self.blocks.free(sequence)
        sequence.status = Status.FINISHED

    def free_slots(self) -> int:
        """How many more sequences may run, with room kept for forks and beams that will."""
        if len(self.running) >= self.max_sequences:
            return 0
        taken, searches = 0, set()
        for sequence in self.running:
            request = sequence.request
            if request.width == 1:
                taken += 1
            elif not request.is_beam:
                taken += request.slots
            elif request.id not in searches:  # its beams come and go, and it keeps its slots
                searches.add(request.id)
                taken += request.slots
        return self.max_sequences - taken

    def _slots(self, sequence: Sequence) -> int:
        """How many slots a sequence takes that is about to run."""
        request = sequence.request
        if request.is_beam and any(s.status is Status.RUNNING for s in request.sequences):
            return 0  # the other beams have taken them
        return request.slots

    def schedule(self) -> Plan:
        """The next step. Blocks are taken for it, and registered as what the step will fill."""
        plan, budget = Plan(), self.max_tokens
        budget = self._go_on(plan, budget)
        if not plan.preempted:  # else a new one would take what was just given up
            self._admit(plan, budget)
        # Left are beams that wait for one that finds no room.
        while not plan.work and self.running:
            self.preempt(self.running[-1], plan)
            self._admit(plan, budget)
        return plan

    def _go_on(self, plan: Plan, budget: int) -> int:
        """Running sequences, the first come first. Returns what is left of the budget."""
        place = 0
        while place < len(self.running) and budget > 0:
            sequence = self.running[place]
            tokens = min(sequence.missing + len(sequence.draft), budget)
            if tokens < 1:  # a beam that waits for the others
                place += 1
                continue
            end = sequence.computed + tokens
            if self.blocks.needed(sequence, end) > len(self.blocks.free_blocks):
                # The last has no work in the plan yet, for those in the plan come before it.
                self.preempt(self.running[-1], plan)
                continue  # tries again, or is through if it was itself the last
            if copy := self.blocks.grow(sequence, end):
                plan.copies.append(copy)
            drafts = max(0, tokens - sequence.missing)
            self.blocks.register(sequence, end - drafts)
            whole = sequence.request.lacks_prompt_logprobs
            plan.work.append(ScheduledSequence(sequence, sequence.computed, tokens, drafts, whole))
            budget -= tokens
            place += 1
        return budget

    def _admit(self, plan: Plan, budget: int) -> None:
        """Waiting sequences, the first come first, while there is room; none is overtaken."""
        slots = self.free_slots() if self.waiting and budget > 0 else 0
        while self.waiting and budget > 0:
            sequence = self.waiting[0]
            taken = self._slots(sequence)
            # A beam that is held waits for the other beams.
            if taken > slots or sequence.held is not None:
                return
            # What is in the cache need not be computed, unless its logits are asked for.
            whole = sequence.request.lacks_prompt_logprobs
            found = 0 if whole else self.blocks.match_prefix(sequence)
            start, known = found * self.blocks.block_size, len(sequence.token_ids)
            end = min(known, start + budget)
            if end < known and not self.chunked_prefill:
                return
            if not self._has_room(sequence, found, end):
                return
            del self.waiting[0]
            self.blocks.take_prefix(sequence, found)
            self.blocks.grow(sequence, end)
            self.blocks.register(sequence, end)
            self.run(sequence)
            plan.work.append(ScheduledSequence(sequence, start, end - start, 0, whole))
            plan.admitted.append(sequence)
            budget -= end - start
            slots -= taken

    def _has_room(self, sequence: Sequence, found: int, end: int) -> bool:
        """Whether there are blocks up to token `end`, and a few more for those that run."""
        free = len(self.blocks.free_blocks) - (self.watermark if self.running else 0)
        return self.blocks.needed_at_first(sequence, found, end) <= free

    def preempt(self, sequence: Sequence, plan: Plan) -> None:
        """Take all blocks back; the tokens stay, and are computed again."""
        self.running.remove(sequence)
        self.blocks.free(sequence)
        sequence.draft = []
        sequence.preemptions += 1
        plan.preempted.append(sequence)
        self.add(sequence)


class StaticScheduler(Scheduler):
    """Static batching, to compare with: nobody is admitted while somebody runs."""

    def _admit(self, plan: Plan, budget: int) -> None:
        if not self.running:
            super()._admit(plan, budget)


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order


def _turn(sequence: Sequence) -> tuple[bool, int, int, int]:
    """The order of those that wait: a beam whose logits are held needs no turn yet."""
    return (sequence.held is not None, *sequence.order)

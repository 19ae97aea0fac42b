"""How much must be in flight to keep a unit busy: Little's law on a GPU. Units 3.1, 3.7.

J. D. C. Little, Operations Research 9 (1961), 383: what is under way = rate x time under way. It
counts instructions or bytes, and does not care whether they come from many warps or from few warps
with several each: V. Volkov, "Better Performance at Lower Occupancy" (GTC 2010).
"""

from __future__ import annotations

WARP = 32  # lanes
SCHEDULERS = 4  # of an SM, each with its own warps; one instruction a cycle each


def instructions_in_flight(latency: float, per_cycle: float = 1.0) -> float:
    """Warp instructions that a scheduler needs under way. latency: cycles. per_cycle: its rate."""
    return latency * per_cycle


def bytes_in_flight(bandwidth: float, latency: float) -> float:
    """Bytes under way between memory and SMs. bandwidth: bytes/s. latency: s."""
    return bandwidth * latency


def warps_needed(bytes_per_sm: float, bytes_a_thread: int) -> float:
    """Warps an SM so that `bytes_per_sm` are under way, `bytes_a_thread` for each thread."""
    return bytes_per_sm / (WARP * bytes_a_thread)


def issue_rate(warps: float, independent: float, latency: float) -> float:
    """Of a scheduler's cycles, the share in which it issues: 1 at best.

    warps: on this scheduler. independent: instructions of each that do not wait for each other.
    latency: cycles until a result can be used.
    """
    return min(1.0, warps * independent / latency)


def take_turns(
    warps: int, wait: float, transfer: float, loads: int
) -> list[tuple[int, float, float]]:
    """Warps that load, use what came, and load again: each load's (warp, asked at, there at).

    wait: of a load that is alone, its transfer included. transfer: of one load's bytes, during
    which the memory brings no others. All times in one unit, such as ns.
    """
    next_ask = [0.0] * warps  # when each warp asks again
    free = 0.0  # from when on the memory can bring other bytes
    done = []
    for _ in range(loads):
        warp = next_ask.index(min(next_ask))  # the one that asks first
        asked = next_ask[warp]
        begin = max(asked + wait - transfer, free)  # others' bytes come first
        free = begin + transfer
        done.append((warp, asked, free))
        next_ask[warp] = free  # it waits for its bytes, then asks again
    return done

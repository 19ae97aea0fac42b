"""Answers to the exercises of unit 4.6: right ones that differ, and common mistakes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from aiinfra_labs.cloud.serving.parallel import rings, schedules
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 4.6.a all-reduce in a ring ------------------------------------------------------------------


@right("4.6.a")
def ring_as_in_the_course(x, rank, size, shift):
    class Place:
        pass

    place = Place()
    place.rank, place.size, place.shift = rank, size, shift
    return rings.all_reduce(x, place)


@right("4.6.a")
def ring_filled_up(x, rank, size, shift):
    more = -len(x) % size
    pieces = F.pad(x, (0, more)).view(size, -1).clone()
    for s in range(size - 1):
        got = shift(pieces[(rank - s) % size])
        pieces[(rank - s - 1) % size] += got
    for s in range(size - 1):
        got = shift(pieces[(rank + 1 - s) % size])
        pieces[(rank - s) % size] = got
    return pieces.flatten()[: len(x)]


@right("4.6.a")
def ring_that_carries_one_piece(x, rank, size, shift):
    """The piece under way is a variable; what is complete is put where it belongs."""
    pieces = list(x.tensor_split(size))
    carried = pieces[rank]
    for s in range(1, size):
        carried = shift(carried) + pieces[(rank - s) % size]
    out = [None] * size
    for s in range(size):
        out[(rank + 1 - s) % size] = carried
        if s < size - 1:
            carried = shift(carried)
    return torch.cat(out)


@wrong("4.6.a", "whole tensors are sent on")
def ring_of_whole_tensors(x, rank, size, shift):
    total, carried = x.clone(), x
    for _ in range(size - 1):
        carried = shift(carried)
        total += carried
    return total


@wrong("4.6.a", "in their last bits")
def ring_that_sums_in_its_own_order(x, rank, size, shift):
    total, carried = x.clone(), x
    for _ in range(size - 1):
        carried = shift(carried)
        total += carried
    return total


@wrong("4.6.a", "one piece is complete, and the others are not")
def ring_without_its_second_phase(x, rank, size, shift):
    pieces = [p.clone() for p in x.tensor_split(size)]
    for s in range(size - 1):
        got = shift(pieces[(rank - s) % size])
        pieces[(rank - s - 1) % size] += got
    return torch.cat(pieces)


@wrong("4.6.a", "IndexError")
def ring_of_chunks(x, rank, size, shift):
    pieces = [p.clone() for p in x.chunk(size)]
    for s in range(size - 1):
        got = shift(pieces[(rank - s) % size])
        pieces[(rank - s - 1) % size] += got
    for s in range(size - 1):
        pieces[(rank - s) % size] = shift(pieces[(rank + 1 - s) % size])
    return torch.cat(pieces)


@wrong("4.6.a", "one piece is complete")
def ring_that_adds_to_the_end(x, rank, size, shift):
    pieces = [p.clone() for p in x.tensor_split(size)]
    for s in range(2 * (size - 1)):
        got = shift(pieces[(rank - s) % size])
        pieces[(rank - s - 1) % size] += got
    return torch.cat(pieces)


@wrong("4.6.a", "every rank waits for a message")
def ring_in_which_one_rank_leaves(x, rank, size, shift):
    pieces = [p.clone() for p in x.tensor_split(size)]
    for s in range(size - 1 - (rank == 0)):
        got = shift(pieces[(rank - s) % size])
        pieces[(rank - s - 1) % size] += got
    return torch.cat(pieces)


@wrong("4.6.a", "it is what the rank was given")
def ring_of_nothing(x, rank, size, shift):
    for _ in range(size - 1):
        shift(x[:0])
    return x


@wrong("4.6.a", "it is the mean")
def ring_of_means(x, rank, size, shift):
    return ring_filled_up(x, rank, size, shift) / size


@wrong("4.6.a", "the result of rank 0 is None")
def ring_without_a_return(x, rank, size, shift):
    x.copy_(ring_filled_up(x, rank, size, shift))


@wrong("4.6.a", "and sends a tensor")
def ring_of_lists(x, rank, size, shift):
    return shift(x.tolist())


# --- 4.6.b which rank holds which rows -----------------------------------------------------------


def _kv(part, rank, size, kv_heads, head_dim):
    if kv_heads >= size:
        return part.chunk(size)[rank]
    return part.split(head_dim)[rank * kv_heads // size]


@right("4.6.b")
def shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim):
    if name == "qkv_proj":
        q, k, v = weight.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim])
        k, v = (_kv(x, rank, size, kv_heads, head_dim) for x in (k, v))
        return torch.cat([q.chunk(size)[rank], k, v])
    if name == "gate_up_proj":
        gate, up = weight.chunk(2)
        return torch.cat([gate.chunk(size)[rank], up.chunk(size)[rank]])
    if name in ("o_proj", "down_proj"):
        return weight.chunk(size, dim=1)[rank]
    return weight


@right("4.6.b")
def shard_by_indices(name, weight, rank, size, heads, kv_heads, head_dim):
    """By row numbers; and the MLP's columns one by one in turn, which is as good."""
    if name == "qkv_proj":
        mine = range(rank * heads // size, (rank + 1) * heads // size)
        kv = sorted({h * kv_heads // heads for h in mine})
        at = [h * head_dim + i for h in mine for i in range(head_dim)]
        for base in (heads, heads + kv_heads):
            at += [(base + h) * head_dim + i for h in kv for i in range(head_dim)]
        return weight[at]
    if name == "gate_up_proj":
        half = len(weight) // 2
        return torch.cat((weight[:half][rank::size], weight[half:][rank::size]))
    if name == "down_proj":
        return weight[:, rank::size]
    if name == "o_proj":
        wide = heads * head_dim // size
        return weight[:, rank * wide : (rank + 1) * wide].clone()
    return weight.clone()


@wrong("4.6.b", "cut as one matrix, a rank gets queries alone")
def shard_of_merged_attention(name, weight, rank, size, heads, kv_heads, head_dim):
    if name == "qkv_proj":
        return weight.chunk(size)[rank]
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "the first ranks got all of gate, and no up")
def shard_of_merged_mlp(name, weight, rank, size, heads, kv_heads, head_dim):
    if name == "gate_up_proj":
        return weight.chunk(size)[rank]
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "its input is what this rank has made")
def shard_all_by_rows(name, weight, rank, size, heads, kv_heads, head_dim):
    if name in ("o_proj", "down_proj"):
        return weight.chunk(size)[rank]
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "and of the kv heads that these ask")
def shard_with_fewer_kv_heads_than_ranks(name, weight, rank, size, heads, kv_heads, head_dim):
    if name == "qkv_proj":
        q, k, v = weight.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim])
        return torch.cat([x.chunk(size)[rank] for x in (q, k, v)])
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "each query head must meet its own kv head")
def shard_with_kv_heads_in_turn(name, weight, rank, size, heads, kv_heads, head_dim):
    if name == "qkv_proj" and kv_heads < size:
        q, k, v = weight.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim])
        mine = rank % kv_heads  # ranks 0, 1, 2, 3 get heads 0, 1, 0, 1
        k, v = (x.split(head_dim)[mine] for x in (k, v))
        return torch.cat([q.chunk(size)[rank], k, v])
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "a norm weighs numbers that every rank has")
def shard_of_norms(name, weight, rank, size, heads, kv_heads, head_dim):
    if name.endswith("norm"):
        return weight.chunk(size)[rank]
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "it is the whole")
def shard_of_attention_alone(name, weight, rank, size, heads, kv_heads, head_dim):
    if name in ("gate_up_proj", "down_proj"):
        return weight
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


@wrong("4.6.b", "it is the whole: 2 ranks")
def shard_of_matrices_alone(name, weight, rank, size, heads, kv_heads, head_dim):
    if weight.dim() == 1:
        return weight
    return shard_by_chunks(name, weight, rank, size, heads, kv_heads, head_dim)


# --- 4.6.c one forward, one backward -------------------------------------------------------------


@right("4.6.c")
def schedule_in_three_parts(stage, stages, micro_batches):
    return schedules.one_forward_one_backward(stage, stages, micro_batches)


@right("4.6.c")
def schedule_by_counting(stage, stages, micro_batches):
    tasks, forward, backward = [], 0, 0
    while backward < micro_batches:
        if forward < micro_batches and forward - backward < stages - stage:
            tasks.append(("F", forward))
            forward += 1
        else:
            tasks.append(("B", backward))
            backward += 1
    return tasks


@wrong("4.6.c", "with all forwards first that is every micro-batch")
def schedule_of_gpipe(stage, stages, micro_batches):
    return schedules.all_forward_all_backward(stage, stages, micro_batches)


@wrong("4.6.c", "one stage works at a time")
def schedule_without_overlap(stage, stages, micro_batches):
    return [(kind, i) for i in range(micro_batches) for kind in "FB"]


@wrong("4.6.c", "20.0% are enough")
def schedule_with_a_short_warm_up(stage, stages, micro_batches):
    ahead = min(max(0, stages - 2 - stage), micro_batches)
    tasks = [("F", i) for i in range(ahead)]
    for i in range(micro_batches - ahead):
        tasks += [("F", ahead + i), ("B", i)]
    return tasks + [("B", i) for i in range(micro_batches - ahead, micro_batches)]


@wrong("4.6.c", "micro-batches are kept at once in stage")
def schedule_with_the_same_warm_up_everywhere(stage, stages, micro_batches):
    return schedules.one_forward_one_backward(0, stages, micro_batches)


@wrong("4.6.c", "changes the gradient")
def schedule_whose_warm_up_runs_past_the_end(stage, stages, micro_batches):
    ahead = stages - 1 - stage
    tasks = [("F", i) for i in range(ahead)]
    for i in range(micro_batches - ahead):
        tasks += [("F", ahead + i), ("B", i)]
    return tasks + [("B", i) for i in range(max(0, micro_batches - ahead), micro_batches)]


@wrong("4.6.c", "no stage can go on")
def schedule_that_begins_with_backward(stage, stages, micro_batches):
    return [(kind, i) for i in range(micro_batches) for kind in "BF"]


@wrong("4.6.c", "no stage can go on")
def schedule_with_the_stages_turned_round(stage, stages, micro_batches):
    return schedules.one_forward_one_backward(stages - 1 - stage, stages, micro_batches)


@wrong("4.6.c", "a schedule is a list of pairs")
def schedule_of_strings(stage, stages, micro_batches):
    return [f"F{i}" for i in range(micro_batches)] + [f"B{i}" for i in range(micro_batches)]


@wrong("4.6.c", "what is left out takes no time")
def schedule_of_forwards_alone(stage, stages, micro_batches):
    return [("F", i) for i in range(micro_batches)]


# --- 4.6.d whom a rank talks to ------------------------------------------------------------------


@right("4.6.d")
def groups_by_coordinates(rank, tensor, data, pipeline):
    t, d, p = rank % tensor, rank // tensor % data, rank // (tensor * data)
    return {
        "tensor": [i + tensor * (d + data * p) for i in range(tensor)],
        "data": [t + tensor * (i + data * p) for i in range(data)],
        "pipeline": [t + tensor * (d + data * i) for i in range(pipeline)],
    }


@right("4.6.d")
def groups_by_a_table(rank, tensor, data, pipeline):
    table = torch.arange(tensor * data * pipeline).view(pipeline, data, tensor)
    p, d, t = (int(i) for i in (table == rank).nonzero()[0])
    return {
        "pipeline": table[:, d, t].tolist(),
        "data": table[p, :, t].tolist(),
        "tensor": table[p, d].tolist(),
    }


@wrong("4.6.d", "data and pipeline are exchanged")
def groups_with_the_pipeline_inside(rank, tensor, data, pipeline):
    found = groups_by_coordinates(rank, tensor, pipeline, data)
    return {"tensor": found["tensor"], "data": found["pipeline"], "pipeline": found["data"]}


@wrong("4.6.d", "it speaks twice a layer")
def groups_with_tensor_outside(rank, tensor, data, pipeline):
    table = torch.arange(tensor * data * pipeline).view(tensor, data, pipeline)
    t, d, p = (int(i) for i in (table == rank).nonzero()[0])
    return {
        "pipeline": table[t, d].tolist(),
        "data": table[t, :, p].tolist(),
        "tensor": table[:, d, p].tolist(),
    }


@wrong("4.6.d", "a rank is in its own groups")
def groups_of_the_first_rank(rank, tensor, data, pipeline):
    return groups_by_coordinates(0, tensor, data, pipeline)


@wrong("4.6.d", "the order counts")
def groups_that_begin_with_the_rank(rank, tensor, data, pipeline):
    found = groups_by_coordinates(rank, tensor, data, pipeline)
    return {k: [rank] + [r for r in v if r != rank] for k, v in found.items()}


@wrong("4.6.d", "a dict was asked for")
def groups_as_a_tuple(rank, tensor, data, pipeline):
    return tuple(groups_by_coordinates(rank, tensor, data, pipeline).values())


# --- 4.6.e ZeRO ----------------------------------------------------------------------------------


@right("4.6.e")
def zero_filled_up(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    more = -len(weights) % size
    part = (len(weights) + more) // size
    mine = slice(rank * part, (rank + 1) * part)
    gradient = reduce_scatter(F.pad(gradients, (0, more)))
    return all_gather(adam(F.pad(weights, (0, more))[mine], gradient))[: len(weights)]


@right("4.6.e")
def zero_in_a_table(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    n = len(weights)
    part = -(-n // size)
    table = weights.new_zeros(2, size * part)
    table[0, :n], table[1, :n] = weights, gradients
    new = adam(table[0].view(size, part)[rank], reduce_scatter(table[1]))
    return all_gather(new)[:n]


@wrong("4.6.e", "it keeps two moments for each weight that it sees")
def zero_that_is_none(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    whole = all_gather(reduce_scatter(_even(gradients, size)))
    return adam(weights, whole[: len(weights)])


@wrong("4.6.e", "that is the step of this rank's own gradients")
def zero_of_its_own_gradients(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    part = -(-len(weights) // size)
    mine = _even(gradients, size)[rank * part : (rank + 1) * part]
    return _zero(weights, mine, rank, size, all_gather, adam)


@wrong("4.6.e", "not equal")
def zero_without_filling_up(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    part = len(weights) // size
    mine = slice(rank * part, (rank + 1) * part)
    return all_gather(adam(weights[mine], reduce_scatter(gradients)))


@wrong("4.6.e", "the weights are as they were")
def zero_that_returns_the_old(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    zero_filled_up(weights, gradients, rank, size, reduce_scatter, all_gather, adam)
    return weights


@wrong("4.6.e", "expected (8,)")
def zero_that_returns_its_part(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    new = zero_filled_up(weights, gradients, rank, size, reduce_scatter, all_gather, adam)
    part = -(-len(weights) // size)
    return new[rank * part : (rank + 1) * part]


@wrong("4.6.e", "the two halves of an all-reduce")
def zero_that_gathers_twice(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    part = -(-len(weights) // size)
    whole = all_gather(reduce_scatter(_even(gradients, size)))
    mine = whole[rank * part : (rank + 1) * part]
    return _zero(weights, mine, rank, size, all_gather, adam)


@wrong("4.6.e", "adam is called on no rank")
def zero_by_plain_descent(weights, gradients, rank, size, reduce_scatter, all_gather, adam):
    part = -(-len(weights) // size)
    mine = _even(weights, size)[rank * part : (rank + 1) * part]
    return all_gather(mine - 0.1 * reduce_scatter(_even(gradients, size)))[: len(weights)]


def _even(x, size):
    return F.pad(x, (0, -len(x) % size))


def _zero(weights, gradient, rank, size, all_gather, adam):
    part = -(-len(weights) // size)
    mine = _even(weights, size)[rank * part : (rank + 1) * part]
    return all_gather(adam(mine, gradient))[: len(weights)]

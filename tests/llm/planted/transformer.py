"""Answers to the exercises of unit 1.4: right ones that differ, and common mistakes."""

from __future__ import annotations

import copy
import io
import math

import torch
from torch.nn import functional as F

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.4.a RMSNorm -----------------------------------------------------------------------------


@right("1.4.a")
def norm_as_llama(x, weight, eps):
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


@right("1.4.a")
def norm_weighted_in_float32(x, weight, eps):
    square = torch.einsum("...c,...c->...", x.float(), x.float()) / x.shape[-1]
    return (x.float() / (square + eps).sqrt()[..., None] * weight.float()).to(x.dtype)


@right("1.4.a")
def norm_of_torch(x, weight, eps):
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


@wrong("1.4.a", "the gradient of x")
def norm_eps_outside_the_root(x, weight, eps):
    wide = x.float()
    return (wide / (wide.pow(2).mean(-1, keepdim=True).sqrt() + eps) * weight).to(x.dtype)


@wrong("1.4.a", "the squares of half-precision numbers do not fit in half precision")
def norm_in_the_dtype_of_x(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@wrong("1.4.a", "expected torch.float16")
def norm_that_stays_in_float32(x, weight, eps):
    wide = x.float()
    return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()


@wrong("1.4.a", "no mean is taken off")
def norm_as_layer_norm(x, weight, eps):
    return F.layer_norm(x.float(), x.shape[-1:], weight.float(), eps=eps).to(x.dtype)


@wrong("1.4.a", "each vector is divided by sqrt(mean of its squares + eps)")
def norm_by_the_sum(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).sum(-1, keepdim=True) + eps) * weight).to(x.dtype)


@wrong("1.4.a", "each vector is divided by sqrt(mean of its squares + eps)")
def norm_over_everything(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean() + eps) * weight).to(x.dtype)


@wrong("1.4.a", "Dimension out of range")
def norm_over_axis_1(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + eps) * weight).to(x.dtype)


@wrong("1.4.a", "the result has no gradient")
def norm_detached(x, weight, eps):
    return norm_as_llama(x.detach(), weight.detach(), eps)


@wrong("1.4.a", "the gradient of x")
def norm_with_a_constant_divisor(x, weight, eps):
    """As if the divisor did not depend on x."""
    wide = x.float()
    divisor = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps).detach()
    return (wide * divisor * weight).to(x.dtype)


# --- 1.4.b block -------------------------------------------------------------------------------


@right("1.4.b")
def block_in_two_lines(x, attention, mlp, norm1, norm2):
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


@right("1.4.b")
def block_by_names(x, attention, mlp, norm1, norm2):
    mixed = torch.add(attention(norm1(x)), x)
    return sum((mixed, mlp(norm2(mixed))))


@wrong("1.4.b", "attention sees norm1 of x")
def block_post_norm(x, attention, mlp, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


@wrong("1.4.b", "without a plain sum, 64 factors")
def block_without_a_sum(x, attention, mlp, norm1, norm2):
    return mlp(norm2(attention(norm1(x))))


@wrong("1.4.b", "a part that has learned nothing adds nothing")
def block_summed_after_the_norm(x, attention, mlp, norm1, norm2):
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


@wrong("1.4.b", "a part that has learned nothing adds nothing")
def block_with_one_sum_too_many(x, attention, mlp, norm1, norm2):
    x = x + attention(norm1(x))
    y = norm2(x)
    y = y + mlp(y)
    return x + y


@wrong("1.4.b", "mlp sees norm2 of that sum")
def block_in_parallel(x, attention, mlp, norm1, norm2):
    return x + attention(norm1(x)) + mlp(norm2(x))


@wrong("1.4.b", "mlp sees norm2 of that sum")
def block_with_one_norm(x, attention, mlp, norm1, norm2):
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


@wrong("1.4.b", "x, which was given to your function, has changed")
def block_in_place(x, attention, mlp, norm1, norm2):
    x += attention(norm1(x))
    return x + mlp(norm2(x))


@wrong("1.4.b", "its result is added to the sum")
def block_that_adds_the_input_twice(x, attention, mlp, norm1, norm2):
    middle = x + attention(norm1(x))
    return x + mlp(norm2(middle))


@wrong("1.4.b", "0 at the bottom")
def block_that_detaches(x, attention, mlp, norm1, norm2):
    x = x.detach() + attention(norm1(x.detach()))
    return x + mlp(norm2(x))


# --- 1.4.c schedule ----------------------------------------------------------------------------


@right("1.4.c")
def rate_by_cosine(step, steps, warm_up, peak, last):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return last + (peak - last) * (1 + math.cos(math.pi * done)) / 2


@right("1.4.c")
def rate_by_sine(step, steps, warm_up, peak, last):
    if step >= steps:
        return last
    if step + 1 <= warm_up:
        return (step + 1) / warm_up * peak
    left = (steps - step) / (steps - warm_up)  # 1 to 0
    return last + (peak - last) * math.sin(math.pi / 2 * left) ** 2


@wrong("1.4.c", "the first at step 0")
def rate_from_zero(step, steps, warm_up, peak, last):
    if step < warm_up:
        return peak * step / warm_up
    return rate_by_cosine(step, steps, warm_up, peak, last)


@wrong("1.4.c", "where done goes from 0 at step warm_up")
def rate_falling_from_step_0(step, steps, warm_up, peak, last):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return last + (peak - last) * (1 + math.cos(math.pi * min(1, step / steps))) / 2


@wrong("1.4.c", "(1 + cos(pi done)) / 2")
def rate_to_zero(step, steps, warm_up, peak, last):
    return rate_by_cosine(step, steps, warm_up, peak, 0.0)


@wrong("1.4.c", "(1 + cos(pi done)) / 2")
def rate_in_a_line(step, steps, warm_up, peak, last):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return peak + (last - peak) * done


@wrong("1.4.c", "the rate of step 15")
def rate_that_climbs_again(step, steps, warm_up, peak, last):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return last + (peak - last) * (1 + math.cos(math.pi * done)) / 2


@wrong("1.4.c", "ZeroDivisionError")
def rate_without_a_guard(step, steps, warm_up, peak, last):
    up = (step + 1) / warm_up
    if up <= 1:
        return peak * up
    return rate_by_cosine(step, steps, warm_up, peak, last)


# --- 1.4.d accumulation ------------------------------------------------------------------------


@right("1.4.d")
def accumulate_by_share(model, parts):
    counts = [(targets != -1).sum().item() for _, targets in parts]
    model.zero_grad()
    total = 0.0
    for (ids, targets), count in zip(parts, counts, strict=True):
        if count:
            loss = model.loss(ids, targets) * (count / sum(counts))
            loss.backward()
            total += loss.item()
    return total


@right("1.4.d")
def accumulate_and_divide_at_the_end(model, parts):
    for parameter in model.parameters():
        parameter.grad = None
    seen, summed = 0, 0.0
    for ids, targets in parts:
        count = int((targets >= 0).sum())
        if count == 0:
            continue
        loss = model.loss(ids, targets) * count
        loss.backward()
        summed, seen = summed + loss.item(), seen + count
    for parameter in model.parameters():
        parameter.grad /= seen
    return summed / seen


@wrong("1.4.d", "each of them counts alike")
def accumulate_mean_of_means(model, parts):
    model.zero_grad()
    total = 0.0
    parts = [part for part in parts if (part[1] != -1).any()]
    for ids, targets in parts:
        loss = model.loss(ids, targets) / len(parts)
        loss.backward()
        total += loss.item()
    return total


@wrong("1.4.d", "each of them counts alike")
def accumulate_without_a_division(model, parts):
    model.zero_grad()
    total = 0.0
    for ids, targets in parts:
        loss = model.loss(ids, targets)
        loss.backward()
        total += loss.item()
    return total


@wrong("1.4.d", "gradients left from the step before")
def accumulate_on_old_gradients(model, parts):
    counts = [(targets != -1).sum().item() for _, targets in parts]
    total = 0.0
    for (ids, targets), count in zip(parts, counts, strict=True):
        if count:
            loss = model.loss(ids, targets) * (count / sum(counts))
            loss.backward()
            total += loss.item()
    return total


@wrong("1.4.d", "parts' graphs were alive at the same time")
def accumulate_all_graphs(model, parts):
    model.zero_grad()
    counts = [(targets != -1).sum().item() for _, targets in parts]
    loss = sum(
        model.loss(ids, targets) * (count / sum(counts))
        for (ids, targets), count in zip(parts, counts, strict=True)
        if count
    )
    loss.backward()
    return loss.item()


@wrong("1.4.d", "rows at once, the largest part has 1")
def accumulate_by_one_batch(model, parts):
    model.zero_grad()
    loss = model.loss(*(torch.cat(x) for x in zip(*parts, strict=True)))
    loss.backward()
    return loss.item()


@wrong("1.4.d", "nan")
def accumulate_with_empty_parts(model, parts):
    model.zero_grad()
    counts = [(targets != -1).sum().item() for _, targets in parts]
    total = 0.0
    for (ids, targets), count in zip(parts, counts, strict=True):
        loss = model.loss(ids, targets) * (count / sum(counts))
        loss.backward()
        total += loss.item()
    return total


@wrong("1.4.d", "each of them counts alike")
def accumulate_zeroing_each_time(model, parts):
    total = 0.0
    counts = [(targets != -1).sum().item() for _, targets in parts]
    for (ids, targets), count in zip(parts, counts, strict=True):
        if count:
            model.zero_grad()
            loss = model.loss(ids, targets) * (count / sum(counts))
            loss.backward()
            total += loss.item()
    return total


@wrong("1.4.d", "the loss is")
def accumulate_the_last_loss(model, parts):
    counts = [(targets != -1).sum().item() for _, targets in parts]
    model.zero_grad()
    for (ids, targets), count in zip(parts, counts, strict=True):
        if count:
            loss = model.loss(ids, targets) * (count / sum(counts))
            loss.backward()
    return loss.item()


# --- 1.4.e resume ------------------------------------------------------------------------------


@right("1.4.e")
class SavedByCopy:
    def __init__(self, run):
        self.states = {
            name: copy.deepcopy(getattr(run, name).state_dict())
            for name in ("model", "optimizer", "scheduler")
        }
        self.batches, self.dropout = run.generator.get_state(), torch.get_rng_state()
        self.step = run.step

    def restore(self, run):
        for name, state in self.states.items():
            getattr(run, name).load_state_dict(copy.deepcopy(state))
        run.generator.set_state(self.batches)
        torch.set_rng_state(self.dropout)
        run.step = self.step


@right("1.4.e")
class SavedInAFile:
    def __init__(self, run):
        state = {
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "scheduler": run.scheduler.state_dict(),
            "batches": run.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "step": run.step,
        }
        self.file = io.BytesIO()
        torch.save(state, self.file)

    def restore(self, run):
        self.file.seek(0)
        state = torch.load(self.file, weights_only=True)
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.scheduler.load_state_dict(state["scheduler"])
        run.generator.set_state(state["batches"])
        torch.set_rng_state(state["dropout"])
        run.step = state["step"]


def without(name: str, what: str) -> type:
    """The right answer, but for one thing that it does not put back."""

    class Saved(SavedByCopy):
        def restore(self, run):
            kept = copy.deepcopy(getattr(run, what).state_dict()) if what in self.states else None
            batches, dropout, step = run.generator.get_state(), torch.get_rng_state(), run.step
            super().restore(run)
            if kept is not None:
                getattr(run, what).load_state_dict(kept)
            elif what == "batches":
                run.generator.set_state(batches)
            elif what == "dropout":
                torch.set_rng_state(dropout)
            else:
                run.step = step

    Saved.__name__ = Saved.__qualname__ = name
    return Saved


for _what, _reason in (
    ("model", "training goes on from the weights as they were"),
    ("optimizer", "what does AdamW remember of past steps"),
    ("scheduler", "what does the scheduler?"),
    ("batches", "which of these did you not save?"),
    ("dropout", "on dropout, which torch's own generator draws"),
    ("step", "it is how many steps were taken"),
):
    wrong("1.4.e", _reason)(without(f"SavedWithout{_what.title()}", _what))


@wrong("1.4.e", "state_dict() gives the very tensors that training writes to")
class SavedByReference:
    def __init__(self, run):
        self.states = {
            name: getattr(run, name).state_dict() for name in ("model", "optimizer", "scheduler")
        }
        self.batches, self.dropout = run.generator.get_state(), torch.get_rng_state()
        self.step = run.step

    restore = SavedByCopy.restore


@wrong("1.4.e", "without restore(run)")
class SavedForever:
    def __init__(self, run):
        self.model = copy.deepcopy(run.model)

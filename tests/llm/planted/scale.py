"""Answers to the exercises of unit 1.6: right ones that differ, and common mistakes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.6.a parameters --------------------------------------------------------------------------


@right("1.6.a")
def parameters_by_formula(config):
    c, v = config["hidden_size"], config["vocab_size"]
    share = config["num_key_value_heads"] / config["num_attention_heads"]
    block = c * c * (2 + 2 * share) + 3 * c * config["intermediate_size"] + 2 * c
    tables = 1 if config["tie_word_embeddings"] else 2
    return config["num_hidden_layers"] * block + tables * v * c + c


@right("1.6.a")
def parameters_by_shapes(config):
    c = config["hidden_size"]
    kv = c // config["num_attention_heads"] * config["num_key_value_heads"]
    mlp = config["intermediate_size"]
    block = [(c, c), (c, kv), (c, kv), (c, c), (c, mlp), (c, mlp), (mlp, c), (c,), (c,)]
    whole = [(config["vocab_size"], c), (c,)] + block * config["num_hidden_layers"]
    if not config["tie_word_embeddings"]:
        whole.append((config["vocab_size"], c))
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in whole)


@right("1.6.a")
def parameters_by_model(config):
    import torch

    from aiinfra_labs.llm.llama import Llama, LlamaConfig

    with torch.device("meta"):
        return sum(p.numel() for p in Llama(LlamaConfig(**config)).parameters())


@wrong("1.6.a", "that is what grouped heads save")
def parameters_without_groups(config):
    return parameters_by_formula(config | {"num_key_value_heads": config["num_attention_heads"]})


@wrong("1.6.a", "without a tie, lm_head is a second one")
def parameters_always_tied(config):
    return parameters_by_formula(config | {"tie_word_embeddings": True})


@wrong("1.6.a", "a tied one is there once, and counts once")
def parameters_never_tied(config):
    return parameters_by_formula(config | {"tie_word_embeddings": False})


@wrong("1.6.a", "that is all norms")
def parameters_without_norms(config):
    norms = (2 * config["num_hidden_layers"] + 1) * config["hidden_size"]
    return parameters_by_formula(config) - norms


@wrong("1.6.a", "another stands behind the last block")
def parameters_without_the_last_norm(config):
    return parameters_by_formula(config) - config["hidden_size"]


@wrong("1.6.a", "gate, up and down are three")
def parameters_with_two_in_the_mlp(config):
    one = config["hidden_size"] * config["intermediate_size"] * config["num_hidden_layers"]
    return parameters_by_formula(config) - one


@wrong("1.6.a", "one square matrix a layer")
def parameters_without_o_proj(config):
    one = config["hidden_size"] ** 2 * config["num_hidden_layers"]
    return parameters_by_formula(config) - one


@wrong("1.6.a", "no one part has that size")
def parameters_by_twelve_d_squared(config):
    c = config["hidden_size"]
    return 12 * config["num_hidden_layers"] * c * c + config["vocab_size"] * c


@wrong("1.6.a", "the count is None")
def parameters_printed(config):
    print(parameters_by_formula(config))


# --- 1.6.b memory under ZeRO -------------------------------------------------------------------


@right("1.6.b")
def bytes_by_sum(parameters, gpus, stage):
    whole = [2, 2, 12]
    divided = [stage >= 3, stage >= 2, stage >= 1]
    return parameters * sum(b / gpus if d else b for b, d in zip(whole, divided, strict=True))


@right("1.6.b")
def bytes_by_table(parameters, gpus, stage):
    return parameters * [16, 4 + 12 / gpus, 2 + 14 / gpus, 16 / gpus][stage]


@right("1.6.b")
def bytes_in_whole_shards(parameters, gpus, stage):
    shard = -(-parameters // gpus)
    kept = [parameters] * 3
    for k in range(stage):
        kept[k] = shard
    return 12 * kept[0] + 2 * kept[1] + 2 * kept[2]


@wrong("1.6.b", "Adam has two moments of 4 bytes, and mixed precision a copy")
def bytes_with_one_number_of_adam(parameters, gpus, stage):
    return parameters * [8, 4 + 4 / gpus, 2 + 6 / gpus, 8 / gpus][stage]


@wrong("1.6.b", "weights and gradients are missing")
def bytes_without_the_copy(parameters, gpus, stage):
    return parameters * [12, 4 + 8 / gpus, 2 + 10 / gpus, 12 / gpus][stage]


@wrong("1.6.b", "that is stage 3; stage 1 leaves 2 + 2 whole")
def bytes_all_divided(parameters, gpus, stage):
    return parameters * 16 / (gpus if stage else 1)


@wrong("1.6.b", "that is stage 1; stage 2 leaves 2 whole")
def bytes_stages_off_by_one(parameters, gpus, stage):
    return bytes_by_table(parameters, gpus, max(0, stage - 1) if stage > 1 else stage)


@wrong("1.6.b", "that is stage 0; stage 1 leaves")
def bytes_without_zero(parameters, gpus, stage):
    return 16 * parameters


@wrong("1.6.b", "bytes a parameter on each GPU, expected 16")
def bytes_in_gigabytes(parameters, gpus, stage):
    return bytes_by_table(parameters, gpus, stage) / 1e9


# --- 1.6.c the split ---------------------------------------------------------------------------


@right("1.6.c")
def split_by_formula(flops, law):
    both = law.alpha + law.beta
    g = (law.alpha * law.a / (law.beta * law.b)) ** (1 / both)
    n = g * (flops / 6) ** (law.beta / both)
    return n, flops / (6 * n)


@right("1.6.c")
def split_by_trial(flops, law):
    sizes = np.geomspace(1e5, 1e14, 5000)
    tokens = flops / (6 * sizes)
    best = np.argmin(law.loss(sizes, tokens))
    return sizes[best], tokens[best]


@right("1.6.c")
def split_by_search(flops, law):
    found = minimize_scalar(
        lambda x: law.loss(np.exp(x), flops / 6 / np.exp(x)), bounds=(10, 35), method="bounded"
    )
    return [float(np.exp(found.x)), float(flops / 6 / np.exp(found.x))]


@wrong("1.6.c", "N D is the budget here, and each pair of them costs 6 operations")
def split_without_the_six(flops, law):
    n, d = split_by_formula(6 * flops, law)
    return n, d


@wrong("1.6.c", "a larger model on fewer tokens would have a smaller loss")
def split_by_twenty_tokens(flops, law):
    """The rule of thumb: right for one law, not for all."""
    n = (flops / 120) ** 0.5
    return n, 20 * n


@wrong("1.6.c", "a smaller model on more tokens would have a smaller loss")
def split_as_kaplan(flops, law):
    n = 1.3e9 * (flops / 6 / 4.3e16) ** 0.73
    return n, flops / 6 / n


@wrong("1.6.c", "times the budget")
def split_swapped(flops, law):
    n, d = split_by_formula(flops, law)
    return n, 20 * n


@wrong("1.6.c", "would have a smaller loss")
def split_half_and_half(flops, law):
    return (flops / 6) ** 0.5, (flops / 6) ** 0.5


@wrong("1.6.c", "two numbers were asked for")
def split_one_number(flops, law):
    return split_by_formula(flops, law)[0]


@wrong("1.6.c", "holds for other laws")
def split_of_the_published_law(flops, law):
    from aiinfra_labs.llm.scale.chinchilla import HOFFMANN

    return split_by_formula(flops, HOFFMANN)


# --- 1.6.d days and dollars --------------------------------------------------------------------


@right("1.6.d")
def cost_by_hours(parameters, tokens, gpus, peak_tflops, mfu, price):
    hours = 6 * parameters * tokens / (peak_tflops * 1e12 * mfu) / 3600
    return hours / gpus / 24, hours * price


@right("1.6.d")
def cost_by_seconds(n, d, gpus, peak, used, price):
    seconds = 6 * n * d / (gpus * peak * used * 1e12)
    days = seconds / 86400
    return np.array([days])[0], gpus * days * 24 * price


@wrong("1.6.d", "each parameter takes 6 operations a token, not 1")
def cost_of_one_operation(parameters, tokens, gpus, peak_tflops, mfu, price):
    return cost_by_hours(parameters / 6, tokens, gpus, peak_tflops, mfu, price)


@wrong("1.6.d", "backward takes twice as many as forward")
def cost_of_forward(parameters, tokens, gpus, peak_tflops, mfu, price):
    return cost_by_hours(parameters / 3, tokens, gpus, peak_tflops, mfu, price)


@wrong("1.6.d", "only peak x MFU counts")
def cost_at_the_peak(parameters, tokens, gpus, peak_tflops, mfu, price):
    return cost_by_hours(parameters, tokens, gpus, peak_tflops, 1.0, price)


@wrong("1.6.d", "that is the price of one GPU: all are paid for")
def cost_of_one_gpu(parameters, tokens, gpus, peak_tflops, mfu, price):
    days, dollars = cost_by_hours(parameters, tokens, gpus, peak_tflops, mfu, price)
    return days, days * 24 * price


@wrong("1.6.d", "that is in hours: a day has 24")
def cost_in_hours(parameters, tokens, gpus, peak_tflops, mfu, price):
    days, dollars = cost_by_hours(parameters, tokens, gpus, peak_tflops, mfu, price)
    return days * 24, dollars


@wrong("1.6.d", "peak_tflops are 1e12 operations/s each")
def cost_with_tera_forgotten(parameters, tokens, gpus, peak_tflops, mfu, price):
    return cost_by_hours(parameters, tokens, gpus, peak_tflops / 1e12, mfu, price)


@wrong("1.6.d", "GPU-hours do not depend on how many GPUs share them")
def cost_of_more_gpus(parameters, tokens, gpus, peak_tflops, mfu, price):
    days, dollars = cost_by_hours(parameters, tokens, gpus, peak_tflops, mfu, price)
    return days, dollars * gpus

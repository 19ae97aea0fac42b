"""Whatever number a public function or a setting is given, it answers at once: with a result, or
with an error that says what happened, why, and what to try."""

import dataclasses
import importlib
import inspect
import math
import pkgutil
import signal

import numpy as np
import pytest
import torch

import aiinfra_labs.gpu.sharing
import aiinfra_labs.llm
from aiinfra_labs.gpu import dependencies, devices, roofline
from aiinfra_labs.gpu.sharing import (
    choice,
    core_limit,
    mig,
    priority,
    queueing,
    scenarios,
    schemes,
    simulation,
    tenants,
    time_slicing,
)
from aiinfra_labs.llm import (
    attention,
    attention_cost,
    beam,
    bpe,
    coreference,
    course_model,
    depth,
    embedding,
    encoder_decoder,
    extrapolation,
    generation,
    kv_cache,
    llama,
    phases,
    positions,
    pronoun_model,
    pronoun_study,
    rope_scaling,
    sampling,
    spelled_numbers,
    three_words,
    training,
)
from aiinfra_labs.llm.deepseek import (
    balance,
    balance_study,
    cache_sizes,
    chains,
    grpo,
    mla_cost,
    moe,
    reasoner,
)
from aiinfra_labs.llm.emergence import growth, metrics, skills
from aiinfra_labs.llm.multimodal import (
    captioner,
    colours,
    contrastive,
    digits,
    patches,
    questions,
    scenes,
    sound,
)
from aiinfra_labs.llm.scale import activations, chinchilla, cost, flops, loss_curve, memory, shapes

CONFIG = llama.LlamaConfig(32, 16, 24, 1, 2, 1, 32)
MODEL = llama.Llama(CONFIG).eval()
LEARNER = llama.Llama(CONFIG)
BYTES = llama.Llama(llama.LlamaConfig(256, 8, 8, 1, 1, 1, 8)).eval()
SHAPE = shapes.from_config(CONFIG.to_dict())
DEEP = shapes.shape("deepseek-v3")
IDS = torch.tensor([[1, 2, 3]])
X = torch.rand(1, 2, 3, 4)
FREQUENCIES = positions.rope_frequencies(8)
LOGITS = torch.tensor([[0.5, 1.0, 2.0]])
TOKENS = torch.arange(200) % 32
LOAD = torch.tensor([3, 1, 2, 2])
PRONOUN = pronoun_model.PronounModel(pronoun_model.PronounConfig(size=8, heads=2))
DEVICE = devices.device("h100")
CHAIN = dependencies.recorded(lambda a: sum(a), 4)
CHANCE = torch.Generator().manual_seed(0)
RECIPE = training.Recipe(steps=1, batch=1, context=4)

# Each function that takes a number, with arguments that it takes.
CALLS = {
    attention.causal_mask: (2, 3),
    attention.repeat_kv: (X, 2),
    attention.split_heads: (torch.rand(1, 2, 6), 3),
    attention_cost.flops: (2, 3, 4, 8),
    attention_cost.causal_flops: (SHAPE, 5),
    attention_cost.score_bytes: (2, 3, 4, 2),
    attention_cost.written_traffic: (2, 3, 4, 8, 2),
    attention_cost.fused_traffic: (2, 3, 4, 8, 2),
    beam.beam_search: (MODEL, IDS, 2, 2, 5, 1.0),
    bpe.train: (["a b"], 258),
    balance.move_bias: (torch.zeros(4), LOAD, 0.1),
    balance.busiest_device: (LOAD, 2),
    cache_sizes.with_kv_heads: (SHAPE, 1),
    cache_sizes.token_bytes: (SHAPE, 8.0),
    cache_sizes.saved: (SHAPE, SHAPE, 8.0, 16.0),
    chains.questions: (0, (3,)),
    coreference.sentences: (0,),
    grpo.objective: (*[torch.zeros(1, 1, 2)] * 3, torch.ones(1, 1), torch.ones(1, 1, 2), 0.2, 0.1),
    schemes.allocate_all: ([schemes.Memory(2.0)], 1.0),
    grpo.advantages: (torch.tensor([[0.0, 1.0]]), 1e-6),
    grpo.clipped_surrogate: (torch.ones(3), torch.ones(3), 0.2),
    mla_cost.expanded: (DEEP, 5),
    mla_cost.absorbed: (DEEP, 5),
    mla_cost.grouped: (SHAPE, 5),
    moe.choose: (torch.rand(2, 4), torch.zeros(4), 1, 2, 1),
    reasoner.new_model: (0,),
    reasoner.answer: (reasoner.new_model(), torch.tensor([chains.encode("3+4=")]), 2, None),
    reasoner.rollout: (*(reasoner.new_model(), [chains.Chain(3, (("+", 4),))], 1, 2, None, 0.0),),
    reasoner.log_probabilities: (MODEL, IDS, 1),
    reasoner.evaluate: (reasoner.new_model(), 3, 1, 7),
    depth.gradient_norms: (depth.WIRINGS[0], 1, 0),
    depth.learn: (depth.WIRINGS[0], 1, b"some text " * 9, 1, 8, 0),
    embedding.bytes_read: (1, 2, 3, 2),
    embedding.gradient_rows: (IDS, 5),
    growth.config_of: (4,),
    metrics.if_independent: (0.5, 2),
    skills.spelled: (torch.tensor([12]), 3),
    skills.shifted: (torch.zeros(1, 5, dtype=torch.int64), 2),
    extrapolation.scalings: (2.0,),
    extrapolation.windows: (TOKENS, 8, 2),
    extrapolation.loss_by_position: (MODEL, TOKENS[:18].view(2, 9), 1),
    extrapolation.binned: (torch.rand(8), 2),
    generation.checked_prompt: (MODEL, IDS, 2),
    generation.tokens: (MODEL, IDS, 2),
    generation.generate: (MODEL, IDS, 2),
    generation.generate_without_cache: (MODEL, IDS, 2),
    generation.stream_generate: (BYTES, bpe.Tokenizer([]), "a", 2),
    patches.patchify: (torch.rand(1, 1, 8, 8), 2),
    patches.unpatchify: (torch.rand(1, 16, 4), 2, 4),
    questions.ids: ("how many", 2),
    questions.drawn: (digits.load()[0], 2, CHANCE),
    questions.training: (2, CHANCE),
    questions.test: (2,),
    scenes.drawn: (digits.load()[0], 2, CHANCE),
    scenes.training: (8, CHANCE),
    scenes.test: (True, 2),
    sound.power: (torch.rand(1, 400), 200),
    phases.prefill: (SHAPE, 3, 1, 2),
    phases.decode: (SHAPE, 3, 1, 2),
    phases.turning_batch: (SHAPE, 3, 10.0, 2),
    positions.sinusoidal: (torch.arange(3), 4, 10.0),
    positions.rope_frequencies: (8, 10.0),
    positions.alibi_slopes: (3,),
    positions.alibi_bias: (torch.rand(2), 2, 3),
    pronoun_study.held_out_batch: (PRONOUN, 2),
    pronoun_study.without_head: (PRONOUN, 0, 1),
    rope_scaling.linear: (FREQUENCIES, 2.0),
    rope_scaling.ntk: (8, 10.0, 2.0),
    rope_scaling.dynamic_ntk: (8, 10.0, 2.0, 9, 8),
    llama.causal: (torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 4), 2),
    rope_scaling.llama3: (FREQUENCIES, 2.0, 8, 1.0, 4.0),
    rope_scaling.yarn: (8, 10.0, 2.0, 8, 1.0, 32.0),
    rope_scaling.rotations: (FREQUENCIES, 5),
    sampling.temperature: (LOGITS, 1.0),
    sampling.top_k: (LOGITS, 2),
    sampling.top_p: (LOGITS, 0.5),
    sampling.min_p: (LOGITS, 0.5),
    sampling.repetition_penalty: (LOGITS, torch.tensor([[1]]), 1.5),
    activations.published: (2, 1, 8, 2, 1),
    activations.of_llama: (CONFIG, 4, 1, 4),
    cost.run: (1e20, 8, 1e15, 0.4, 2.0),
    cost.mfu: (1e20, 1e3, 1e15),
    flops.training: (1e9, 1e10),
    flops.attention: (SHAPE, 2, 3),
    flops.forward: (SHAPE, 2, 1),
    flops.step: (SHAPE, 2, 1),
    flops.a_token: (SHAPE, 3),
    flops.decode: (SHAPE, 3),
    memory.model_states: (1e9, 2, 1),
    memory.kv_bytes: (SHAPE, 2),
    spelled_numbers.spelled: (12,),
    spelled_numbers.train: (2, 1, 0),
    training.evaluate: (MODEL, TOKENS, 8, 4),
    training.train_one_cycle: (
        LEARNER,
        torch.optim.AdamW(LEARNER.parameters()),
        lambda: LEARNER.loss(IDS, IDS),
        2,
        0.01,
    ),
    chinchilla.HOFFMANN.loss: (1e9, 1e10),
    chinchilla.HOFFMANN.optimum: (1e20,),
    choice.options: (scenarios.TRIO, 2),
    choice.deal: (scenarios.TRIO, 2),
    choice.try_option: (scenarios.TRIO[:1], choice.Option(schemes.Exclusive(), 1), 0.1, 0),
    queueing.use: (2.0, 3.0),
    queueing.wait_ms: (2.0, 3.0, 1.0),
    queueing.latency_percentile_ms: (2.0, 3.0, 99.0),
    queueing.number_inside: (2.0, 3.0),
    simulation.simulate: (scenarios.TRIO, schemes.TimeSlicing(), 0.1, 0),
    tenants.requests: (scenarios.CHAT, 1.0, 0),
    time_slicing.time_slices: ([(0, 5)], 3, 1),
    time_slicing.check_slices: (3, 1),
    time_slicing.round_robin: ([(0, 5)], 3, 1),
    roofline.Roofline("a", 1e12, 1e11).bound_by: (2.0,),
    roofline.Roofline("a", 1e12, 1e11).seconds: (2.0, 3.0),
    dependencies.issue_times: (CHAIN, 2, 1),
    dependencies.cycles: (CHAIN, 2, 1),
    three_words.added: (3, 0),
    three_words.turned: (np.ones(4), 2.0, np.ones(2)),
}
# Settings: each field that is a number.
SETTINGS = [
    *(RECIPE, sampling.Sampling(), CONFIG, balance_study.CONFIG, balance_study.Way()),
    *(reasoner.WarmUp(), reasoner.Reinforcement(), pronoun_model.PronounConfig()),
    *(encoder_decoder.EncoderDecoderShape(), growth.Lesson(), colours.Lesson()),
    *(questions.Lesson(), scenes.Lesson(), skills.Recall(), skills.Addition()),
    *(SHAPE, DEEP.latent, DEEP.experts, chinchilla.HOFFMANN, memory.MIXED),
    *(scenarios.CHAT, schemes.TimeSlicing(), schemes.Hami(), schemes.Memory(2.0)),
    *(core_limit.CoreLimit(20), priority.Watched(), mig.gpus()["a30-24gb"].profiles[0]),
    roofline.Roofline("a", 1e12, 1e11),
]
MAKES = {  # classes with numbers in their constructor
    kv_cache.PreallocatedCache: (CONFIG, 1, 4),
    positions.LearnedPositions: (4, 4),
    contrastive.Clip: (3, 16),
    captioner.Captioner: (5, 16, 4),
    attention.MultiHeadAttention: (8, 2, 1),
    depth.Stack: (depth.WIRINGS[0], 1, 8, 0),
}
BAD = [math.nan, math.inf, -math.inf, -1, 0, 1.5, -1.5, "x", "", [], None, 10**30, {}, b"2", 1j]
NEVER = [math.nan, "x", "", [], {}, b"2", 1j]  # no number at all: never a result

# Without a number of a caller's own to go wrong: they read what is stored, or are given what
# another function of theirs has made and checked. `update` stands whole on page 1.4, where each of
# its lines is mechanism, and is called with its module's numbers.
OUTSIDE = {"check_ids", "update"}


def numeric(parameter):
    return str(parameter.annotation).split(" |")[0] in ("int", "float")


def takes_numbers():
    for package in (aiinfra_labs.llm, aiinfra_labs.gpu.sharing):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if any(part in module.name for part in (".exercises", ".drawings", ".widgets")):
                continue
            found = importlib.import_module(module.name)
            for name, function in vars(found).items():
                if inspect.isfunction(function) and function.__module__ == module.name:
                    parameters = inspect.signature(function).parameters.values()
                    if not name.startswith("_") and any(map(numeric, parameters)):
                        yield function


def test_every_public_function_that_takes_a_number_is_tried():
    known = {inspect.unwrap(function) for function in CALLS}
    missing = [
        f"{function.__module__}.{function.__name__}"
        for function in takes_numbers()
        if inspect.unwrap(function) not in known and function.__name__ not in OUTSIDE | HEAVY
    ]
    assert missing == []


# Whole trainings; their settings are tried above, and these have no others but a seed.
HEAVY = {
    *("taught", "graded", "service", "agrees", "merge_pair", "yarn_stretch", "study", "take_step"),
    *("make", "looks", "train"),
}


def outcome(call):
    """What a call comes to: "result", or the error. Raises where it takes more than 10 s."""

    def late(*_):
        raise TimeoutError("still running after 10 s of processor time")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, 10)
    try:
        result = call()
        if inspect.isgenerator(result):
            next(result, None)
        elif hasattr(result, "__enter__"):
            with result:
                pass
        return "result"
    except TimeoutError:
        raise
    except Exception as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def judged(name, value, made):
    """What is wrong with an outcome, or None."""
    if made == "result":
        wrong = any(type(value) is type(bad) and repr(value) == repr(bad) for bad in NEVER)
        return f"{name}={value!r} gave a result" if wrong else None
    text = str(made)
    if "\nWhy: " in text and "\nTry: " in text:
        return None
    return f"{name}={value!r}: {type(made).__name__}: {text.splitlines()[0] if text else ''}"


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f"{f.__module__[13:]}.{f.__name__}")
def test_a_function_answers_any_number(function):
    given = CALLS[function]
    assert outcome(lambda: function(*given)) == "result"
    names = list(inspect.signature(function).parameters.values())
    found = []
    for place, parameter in enumerate(names[: len(given)]):
        if not numeric(parameter):
            continue
        for value in BAD:
            arguments = [*given[:place], value, *given[place + 1 :]]
            made = outcome(lambda arguments=arguments: function(*arguments))
            found.append(judged(parameter.name, value, made))
    assert [text for text in found if text] == []


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: type(s).__name__)
def test_a_setting_is_refused_or_taken(setting):
    found = []
    for field in dataclasses.fields(setting):
        if not field.init or str(field.type).split(" |")[0] not in ("int", "float"):
            continue
        for value in BAD:
            made = outcome(lambda f=field, v=value: dataclasses.replace(setting, **{f.name: v}))
            found.append(judged(field.name, value, made))
    assert [text for text in found if text] == []


@pytest.mark.parametrize("kind", MAKES, ids=lambda kind: kind.__name__)
def test_a_module_is_refused_or_made(kind):
    given = MAKES[kind]
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    found = []
    for place, parameter in enumerate(parameters[: len(given)]):
        if not numeric(parameter):
            continue
        for value in BAD:
            if value == 10**30 or (value is None and "None" in str(parameter.annotation)):
                continue
            arguments = [*given[:place], value, *given[place + 1 :]]
            made = outcome(lambda arguments=arguments: kind(*arguments))
            found.append(judged(parameter.name, value, made))
    assert [text for text in found if text] == []


def test_a_fit_takes_no_loss_without_a_logarithm():
    for value in (math.nan, math.inf, 0.0, -1.0, "x", None):
        assert isinstance(outcome(lambda v=value: loss_curve.fit([1, 2, 3], [3, v, 1])), ValueError)
        assert isinstance(outcome(lambda v=value: loss_curve.fit([1, v, 3], [3, 2, 1])), ValueError)
    assert isinstance(outcome(lambda: loss_curve.fit([2, 2, 2], [3, 2, 1])), ValueError)


def test_the_recipe_of_the_course_is_taken():
    assert course_model.RECIPE.steps == 2400

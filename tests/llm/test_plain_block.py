"""The block in NumPy computes what the course's own decoder computes. Unit 1.4."""

import numpy as np
import torch

from aiinfra_labs.llm import llama, plain_block
from aiinfra_labs.llm.drawings import one_block


def library_block():
    """`llama.Block` with the weights of `plain_block`."""
    made = llama.Block(llama.LlamaConfig(1, 4, 6, 1, 1, 1), 0).double()
    with torch.no_grad():
        for part, weight in (
            (made.self_attn.q_proj, plain_block.W_Q),
            (made.self_attn.k_proj, plain_block.W_K),
            (made.self_attn.v_proj, plain_block.W_V),
            (made.self_attn.o_proj, plain_block.W_O),
            (made.mlp.gate_proj, plain_block.W_GATE),
            (made.mlp.up_proj, plain_block.W_UP),
            (made.mlp.down_proj, plain_block.W_DOWN),
        ):
            part.weight.copy_(torch.tensor(weight).T)
    return made


def test_it_is_the_library_s_block_where_nothing_is_turned():
    x = torch.tensor(plain_block.X)
    still = torch.ones(4, 2), torch.zeros(4, 2)  # cos and sin of no angle
    with torch.no_grad():
        theirs = library_block()(x[None], *still)[0].numpy()
    np.testing.assert_allclose(plain_block.block(plain_block.X), theirs, atol=1e-5)


def test_the_figure_tells_the_row_that_comes_out():
    out = plain_block.block(plain_block.X)[-1]
    told = str(one_block.through_a_block().get_label())
    assert told.endswith(" ".join(f"{v:.2f}" for v in out) + ".")
    assert plain_block.WORDS[-1] == "它"

"""What a model of a given shape needs: parameters, operations, memory, time, money. Unit 1.6.

Read in this order: `shapes` (a config), `parameters`, `flops`, `memory`, `activations`, `cost`,
then `chinchilla` (what a budget buys) and `loss_curve` (what was measured here). No module trains
or runs a model, but for `activations.saved_bytes`, which watches one.
"""

"""DeepSeek's ideas, each in a small file. Unit 1.7.

Read in this order: `config`, `mla` (attention from a latent), `cache_sizes` and `mla_cost` (what
it saves, and what it computes), `moe` (experts and their router), `balance` (that none is overrun),
`model` (a decoder of both, equal to transformers'), `balance_study` (it trained in several ways);
then `grpo` (the objective), `chains` (the task), `reasoner` (a small model that learns to think
longer).
"""

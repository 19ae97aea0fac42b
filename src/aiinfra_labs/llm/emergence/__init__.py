"""One skill, two rulers, models that grow. Unit 1.8.

Read in this order: `skills` (what is to be learnt), `metrics` (how it is graded), `growth` (models
of several sizes that learn it). `benchmarks/emergence.py` trains them all and stores the grades.
"""

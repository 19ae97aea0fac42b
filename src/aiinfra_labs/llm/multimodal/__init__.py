"""Images, sound and text in one model, small enough to read. Unit 1.8.

Read in this order: `digits` and `patches` (an image as a sequence), `vision` (an encoder of it),
`contrastive` with `colours` (images and texts in one space), `captioner` with `scenes` (text that
looks at an image), `sound` and `stream` with `questions` (all of it as one sequence of tokens).
`stored` reads the weights that `benchmarks/multimodal.py` trained.
"""

"""What runs lane code: all threads of a batch of blocks at once, one NumPy lane each. Unit 3.2.

In the order of reading: `mask` (which lanes are active), `arithmetic`, `views` (arrays, as lanes
see them), `memory` (as the host sees it), `launching`, `geometry`, `loops`,
`waiting` (loops that wait for others), `machine`, `passing` and
`arguments`, `configuration`, `dispatch` (from `@cuda.jit` to a launch).
"""

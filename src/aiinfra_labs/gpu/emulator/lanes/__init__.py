"""What runs lane code: all threads of a batch of blocks at once, one NumPy lane each. Unit 3.2.

In the order of reading: `mask` (which lanes are active), `arithmetic`, `launching`, `protocol`
(what the parts ask of a machine), `views` (arrays, as lanes see them), `items` (what a loop goes
over), `loops`, `geometry`, `methods`, `machine`, `passing`, `configuration`, `dispatch` (from
`@cuda.jit` to a launch).
"""

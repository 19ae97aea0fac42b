"""What a program may name: `cuda.grid`, `cuda.shared.array`, `cuda.shfl_down_sync`, ... Unit 3.2.

In a kernel: `intrinsics` (grid, threadIdx), `takes` (the table of what each takes), `arrays`
(shared, local, constant), `barriers`, `atomics`, `warp` (shuffles, votes), `bits`, `fp16`,
`vectors`, `random`; `mathematics`, `ufuncs`, `whole` (arrays as a whole). On the
host: `memory` (device arrays), `arguments`, `host` (streams, events), `reducing`, `vectorizing`.
"""

"""What a profiler would count. Unit 3.8 shows all of it. In the order of reading:

`observing` (a machine that is watched), `counting` (requests, sectors), `banks` (shared memory),
`cache` (L2 and DRAM), `figures` (Nsight Compute's names), `literals` (what numbers in the text are
compiled to), `report`, `showing`, `profiling`, `tracing`; then `occupancy` and `roofline`.
"""

"""One GPU for several tenants: MIG, time slicing, and limits in user space as HAMi sets them.

Unit 3.9. Where to find what:

MIG: `mig` (profiles, a board, legal starts), `planning` (place all, place the most, move the
fewest), `layouts` (every arrangement), `mig_profiles.toml` (NVIDIA's tables).

User space: `shared_region` (what a container's processes have allocated, in shared memory),
`memory_limit` (what stands between a program and the allocator), `containers` (real processes
under a limit), `core_limit` (HAMi's rule for kernel launches), `priority` (HAMi's monitor).

Under load: `tenants` (who asks for what), `scenarios` (those of the page), `time_slicing` (round
robin), `schemes` (whole GPUs, MIG, time slices, HAMi), `simulation` (all of them on the same
requests), `queueing` (what theory says), `choice` (the fewest GPUs that keep every promise).
"""

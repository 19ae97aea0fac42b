"""The kernels that the pages of chapter 3 run, one module a unit: unit 3.2 is `cuda_model`.

The same source runs on a GPU and on the emulator; `aiinfra_labs.gpu.cuda` decides which.
"""

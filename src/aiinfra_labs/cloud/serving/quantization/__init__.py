"""Fewer bits a weight, and a key: how they are rounded, stored, multiplied and measured. Unit 4.5.

from aiinfra_labs.cloud.serving.quantization.integers import Scheme
from aiinfra_labs.cloud.serving.quantization.layers import quantize_linears

quantize_linears(model, Scheme(4, per=32))  # the engine serves it as before
"""

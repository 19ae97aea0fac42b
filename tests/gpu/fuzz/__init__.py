"""Kernels made at random, run by three machines that must agree: see `campaign`."""

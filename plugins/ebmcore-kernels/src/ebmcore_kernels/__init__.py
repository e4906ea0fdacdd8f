"""Fast kernels for ebmcore: noise on the CPU by Numba, on GPUs by Triton."""

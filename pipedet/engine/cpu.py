"""Make the CPU go as fast as it can without changing a result; elsewhere this does nothing."""

import ctypes
import platform
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc, malloc.h


def tune_cpu() -> None:
    """Keep large blocks in the heap, and send matrix products to the faster of two libraries."""
    if platform.system() == 'Linux':
        _keep_freed_memory()
        flags = Path('/proc/cpuinfo').read_text(encoding='utf-8')
        if 'avx512f' in flags and 'amx_bf16' not in flags:
            # MKL leaves AVX-512 unused on AMD; under this flag oneDNN takes over and, without AMX,
            # still computes in full float32 (relative error 6e-7). With AMX it would really use
            # bfloat16, and without AVX-512 there is nothing to gain: hence the condition.
            torch.backends.mkldnn.matmul.fp32_precision = 'bf16'


def _keep_freed_memory() -> None:
    """Stop malloc from returning every activation to the kernel and faulting it in again."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

"""The benchmarks of asv. No tensor is made at import: a fork server must not hold OpenMP threads."""

import os

# torch.utils.benchmark asks at import whether there is a GPU: through NVML without initialising CUDA, which a fork
# would not survive.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

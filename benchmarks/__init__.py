"""What asv times and tracks. No tensor is made at import: a fork server must not hold OpenMP threads."""

import os

# At import torch's timers ask whether there is a GPU: so asked, CUDA is not initialised, which no fork would survive.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

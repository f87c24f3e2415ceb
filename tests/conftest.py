"""Set up before htlib is imported: no display, few threads, shapes in signatures checked."""

import os

import torch
from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(2)
# Only htlib.network: elsewhere the tests want to see htlib's own errors for bad input.
install_import_hook("htlib.network", "beartype.beartype")

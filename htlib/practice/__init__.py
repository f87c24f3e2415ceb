"""Put allocations to use: learning rates and weight decay per layer, pruning, experts, bit widths."""

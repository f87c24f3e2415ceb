"""The two-layer network of the paper: drawn, trained, measured."""

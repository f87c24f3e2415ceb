"""Measure the eigenvalues of any matrix: exponents, spikes, nulls.  Nothing here depends on a network."""

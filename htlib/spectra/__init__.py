"""Eigenvalues of any matrix and what they say: exponents, spikes, nulls.  Nothing here knows a network."""

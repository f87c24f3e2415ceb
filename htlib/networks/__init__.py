"""Real networks, trained from scratch: digits and English text, with what is allocated to their layers."""

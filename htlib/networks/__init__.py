"""Real networks on digits, text and sentences, with what is allocated to their layers.

All are trained from scratch, except MiniLM, a pretrained encoder, which is pruned or fine-tuned.
"""

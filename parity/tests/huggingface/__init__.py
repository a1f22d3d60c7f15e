"""Hugging Face's own torch models held against their flax counterparts, which others wrote: ``tox -e huggingface``."""

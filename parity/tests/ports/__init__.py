"""Ports as users write them: four models, each in torch, flax linen, flax nnx and Keras, and what they get wrong."""

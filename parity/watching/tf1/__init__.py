"""Look into runs of a TensorFlow 1 session."""

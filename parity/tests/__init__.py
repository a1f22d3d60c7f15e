"""The parity suite, the ladder, and the harness's own tests."""

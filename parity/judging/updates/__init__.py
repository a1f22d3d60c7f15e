"""Single updates of two runs, each judged by itself."""

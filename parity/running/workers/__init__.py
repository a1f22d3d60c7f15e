"""Worker processes of this machine: how one begins, what it is told and answers, and what no job may leave in it."""

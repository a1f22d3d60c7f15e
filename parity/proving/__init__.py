"""Would the harness notice? Mistakes planted and looked for, right runs left alone."""

"""Is a run right? Compare, noise floor, tolerance, verdict; one cell, a folder, two recordings."""

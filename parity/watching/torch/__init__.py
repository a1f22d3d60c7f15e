"""Look into runs of a torch module and its optimizer."""

"""From the tidy table to answers: means and intervals, the paper's claims, signals that need no label."""

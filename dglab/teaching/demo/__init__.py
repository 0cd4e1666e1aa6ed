"""The explorers as one page for a projector: ``make demo``, or ``python -m dglab.teaching.demo``."""

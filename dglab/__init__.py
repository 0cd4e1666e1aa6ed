"""dglab: domain generalization in semantic segmentation, taught and reproduced.

The rooms, in the order in which data walks through them: :mod:`dglab.data`, :mod:`dglab.training`,
:mod:`dglab.testtime`, :mod:`dglab.evaluation`, :mod:`dglab.experiments`, :mod:`dglab.analysis`,
:mod:`dglab.report`.
"""

__version__ = "0.1.0"

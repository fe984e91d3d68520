"""Golden traces: cases recorded on real kernels, replayed on the simulator or on real descriptors, and compared.

Theory. A case is a list of system calls with the results a real kernel gave (``tests/golden/README.md`` describes the
format). ``cases`` reads them, ``interpreter`` performs their steps on a *floor* (``floor`` is the interface,
``simulated`` and ``live`` implement it), ``replay`` runs files of cases, ``report`` prints agreement. ``live_run`` and
``live_compare`` do the same on a real kernel, one process a case.
"""

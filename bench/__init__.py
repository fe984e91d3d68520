"""Speed, as ratios measured in one run.

Absolute times on a shared machine mean little, CPU time included; ratios of things measured side by side mean
something. So every candidate runs in a fresh process per round, candidates alternate, every other round in the opposite
order, only CPU time of the thread is counted, and a ratio is the median of the rounds' ratios.

``python -m bench`` prints the table, ``python -m bench --check`` also fails where a goal is missed by more than half.

To add a subject: write ``bench/NAME.py`` with a function ``experiments() -> list[Experiment]`` and put NAME into
``MODULES`` of ``bench/__main__.py``. An :class:`~bench.ab.Experiment` is some candidates, each a function without
arguments that sets itself up, measures with :func:`~bench.ab.timed` and returns nanoseconds by operation; the first one
is ours. A goal names a candidate and an operation and says how many times our time the other needs, at least or at
most::

    def direct() -> Measures:
        kernel, file = opened()
        return {"write": timed(lambda: [file.write_nowait(MESSAGE) for _ in range(1000)], 1000)}

    def experiments() -> list[Experiment]:
        return [
            Experiment(
                "messages",
                {"write_nowait": direct, "parse and update": floor},
                [Goal("parse and update", "write", at_least=0.5)],
            )
        ]

Goals come from the issue that asked for them; where a goal's ``source`` is "guard" it only keeps what was reached.
"""

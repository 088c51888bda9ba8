"""The simulator: explores every failure path of sagas against stated invariants.

``world`` is one run: the real delivery, relay, consumer and sagas over databases in memory, with
time, broker and all failures in its hands. ``choices`` are what may go wrong, ``oracles`` what must
hold all the same, ``explore`` goes through the schedules, ``report`` tells of them.
"""

"""The simulator: explores every failure path of sagas against stated invariants.

``world`` is one run: the real delivery, relay, consumer and sagas over databases in memory, with
time, broker and all failures in its hands. ``agenda`` says what comes next in it, ``nature`` what
goes wrong; ``choices`` decide that, ``oracles`` are what must hold all the same, ``explore`` goes
through the schedules, ``report`` tells of them. ``harness`` is the same for one test.
"""

"""Integration tests share one real network, the fixture `testbed` of `lnagents.testbed`.

A test leaves it as it found it: it may pay, but what it stops, freezes, opens or reprices it puts
back. Whoever needs a network of its own takes `testbed_factory`.
"""

"""lnagents: a real Lightning integration testbed in which LND nodes are learning agents.

The layers, from the bottom up (imports point down only, `tests/unit/test_layers.py` enforces it):

`model` plain types · `lnd` one node's client · `testbed` a live network · `twin` its simulator ·
`market` L402 trade · `env` observations, actions, rewards · `learn` torch algorithms ·
`agent` the daemon of one node · `evaluate` experiments and reports · `cli`.
"""

__version__ = "0.1.0"

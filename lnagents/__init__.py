"""lnagents: a real Lightning integration testbed in which LND nodes are learning agents.

The layers, from the bottom up (imports point down only, `tests/unit/test_layers.py` enforces it):

`model` plain types · `lnd` one node's client · `testbed` a live network · `twin` its simulator ·
`market` L402 trade · `env` observations, actions, rewards · `learn` torch algorithms ·
`agent` the daemon of one node · `evaluate` experiments and reports · `cli`.
"""

import os

# gRPC reads these when it is imported, so they stand here, before any module of ours does. LND's
# documentation asks clients for the first, because its certificates are ECDSA; without the second
# gRPC tells on standard error of every node that stops. What a user has set counts.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "HIGH+ECDSA")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

__version__ = "0.1.0"

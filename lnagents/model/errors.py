"""Every exception that lnagents raises on purpose, as one tree.

LnagentsError
├── InputError                 bad input from a user; the command line exits with 2
│   ├── TopologyError          a topology file
│   ├── WorkloadError          a workload file
│   ├── ConfigError            a configuration, of an agent or of a training
│   ├── RecordingError         a recorded live run
│   └── ExperimentError        the definition of an experiment, or its results
├── LndError                   an answer of a node (mapped from gRPC in `lnagents.lnd`)
│   ├── NodeUnavailableError   not reachable, starting or shutting down
│   ├── NodeTimeoutError       no answer within the deadline
│   ├── PermissionRefusedError the macaroon does not allow the call
│   ├── NotFoundError          no such invoice, channel, node or payment
│   ├── AlreadyExistsError     for instance a payment hash that was paid before
│   ├── InvalidRequestError    the node refused the arguments
│   └── WalletLockedError      the wallet waits for its password
├── PaymentError               a payment that cannot be made
│   ├── NoRouteError           no route within the limits
│   └── LimitExceededError     a money limit forbids it
├── MarketError                L402 trade
│   ├── NotForSaleError        nothing is sold under this path, or not any more
│   ├── SellerBusyError        too many ask and do not pay
│   ├── ChallengeError         a 402 answer that cannot be understood
│   ├── PriceError             the invoice costs more than the buyer agreed to
│   ├── DocumentInvalidError   a bad signature, scope or age
│   └── TokenError             a token that was used, altered or made for something else
├── StoreError                 an agent's database
├── CheckpointError            a checkpoint that does not fit this code or configuration
└── TestbedError               a live network
    ├── ToolchainError         a program that is missing and could not be provided
    ├── BackendError           a process or container did not do what it was asked
    ├── PortInUseError         another program listens there
    ├── NodeDiedError          a process ended by itself; carries its last log lines
    ├── SettleTimeoutError     the network did not reach the awaited state in time
    └── AuditError             amounts do not add up
"""


class LnagentsError(Exception):
    """Base of all; `str()` is one sentence that a user can act on."""


class InputError(LnagentsError):
    """Bad input. The sentence names the file and the key."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem

    def __reduce__(self) -> tuple[type[LnagentsError], tuple[str, str]]:
        # They come from other processes, too; Python would give the sentence alone to __init__.
        return type(self), (self.source, self.problem)


class TopologyError(InputError):
    """A topology file is wrong."""


class WorkloadError(InputError):
    """A workload file is wrong."""


class ConfigError(InputError):
    """The configuration of an agent or of a training is wrong."""


class RecordingError(InputError):
    """A recording of a live run is wrong."""


class ExperimentError(InputError):
    """The definition of an experiment is wrong, or its results do not fit."""


class LndError(LnagentsError):
    """A node answered with an error."""


class NodeUnavailableError(LndError):
    """The node is not reachable, still starting, or shutting down."""


class NodeTimeoutError(LndError):
    """The node did not answer within the deadline."""


class PermissionRefusedError(LndError):
    """The macaroon does not allow this call."""


class NotFoundError(LndError):
    """The node does not know the thing that was asked for."""


class AlreadyExistsError(LndError):
    """The thing exists already, for instance a payment hash that was paid before."""


class InvalidRequestError(LndError):
    """The node refused the arguments."""


class WalletLockedError(LndError):
    """The node's wallet waits for its password."""


class PaymentError(LnagentsError):
    """A payment cannot be made."""


class NoRouteError(PaymentError):
    """No route exists within the limits."""


class LimitExceededError(PaymentError):
    """A money limit forbids it."""


class MarketError(LnagentsError):
    """Something in an L402 trade failed."""


class NotForSaleError(MarketError):
    """Nothing is sold under this path, or not any more."""


class SellerBusyError(MarketError):
    """Too many ask for prices and do not pay."""


class ChallengeError(MarketError):
    """An HTTP 402 answer could not be understood."""


class PriceError(MarketError):
    """The invoice costs more than the buyer agreed to."""


class DocumentInvalidError(MarketError):
    """A document has a bad signature, scope, form or age."""


class TokenError(MarketError):
    """A token was used before, altered, or made for something else."""


class StoreError(LnagentsError):
    """An agent's database cannot be used."""


class CheckpointError(LnagentsError):
    """A checkpoint does not fit this code or configuration."""


class TestbedError(LnagentsError):
    """A live network failed."""

    __test__ = False  # pytest would collect the name


class ToolchainError(TestbedError):
    """A program is missing and could not be provided."""


class BackendError(TestbedError):
    """A process or container did not do what it was asked."""


class PortInUseError(TestbedError):
    """Another program listens on the port."""


class NodeDiedError(TestbedError):
    """A process ended by itself; the message carries its last log lines."""


class SettleTimeoutError(TestbedError):
    """The network did not reach the awaited state in time."""


class AuditError(TestbedError):
    """Amounts do not add up."""

"""How a seller knows its own quotes without remembering any: by a seal over path, price and time.

So a flood of requests for quotes costs no memory and drives out no quote, and quotes survive a
restart. The secret is made from a signature of the node's key, which is the same each time.
"""

from __future__ import annotations

import hashlib
import hmac

from lnagents.market.documents import MessageSigner
from lnagents.market.paths import QuoteMark

_SECRET_OF = b"lnagents market: the secret behind the seals of quotes"
_SEAL_CHARACTERS = 32


class Seals:
    """The seals of one seller."""

    def __init__(self, signer: MessageSigner) -> None:
        self._signer = signer
        self._secret = b""

    async def mark(self, path: str, price: int, expires_at: int) -> QuoteMark:
        """What makes the price of `path` hold until `expires_at` (Unix seconds).

        Raises:
            LndError: the node did not sign.
        """
        return QuoteMark(price, expires_at, await self._seal(path, price, expires_at))

    async def is_own(self, path: str, mark: QuoteMark) -> bool:
        """Whether this seller made `mark` for `path`; it may have expired.

        Raises:
            LndError: the node did not sign.
        """
        seal = await self._seal(path, mark.price_sat, mark.expires_at)
        return hmac.compare_digest(seal, mark.seal)

    async def _seal(self, path: str, price: int, expires_at: int) -> str:
        if not self._secret:
            # LND's signatures are deterministic (RFC 6979).
            signature = await self._signer.sign_message(_SECRET_OF)
            self._secret = hashlib.sha256(signature.encode()).digest()
        text = f"{path}\n{price}\n{expires_at}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:_SEAL_CHARACTERS]

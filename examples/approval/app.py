"""The office inside an application: a claim is filed and a manager decides, each in one call.

python -m examples.approval.app
"""

from __future__ import annotations

import sys

import anyio

from outboxd import Runtime

from . import archive, audit, bank, expenses
from .messages import Claim, Decide


async def main(data: str = "office") -> None:
    async with Runtime([expenses, bank, archive, audit], data=data) as runtime:
        claim = await runtime.start(Claim(claim_id="c-9", employee="bob", cents=4200))
        # A button that is pressed twice has the same id twice: one decision.
        for _ in range(2):
            word = Decide(claim_id="c-9", by="ann", is_approved=True)
            await runtime.send(word, message_id="decision-c-9")
        sys.stdout.write(f"{await claim.result()}\n")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])

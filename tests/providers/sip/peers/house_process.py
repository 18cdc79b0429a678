"""Our side alone in a process: registers, prints its port, takes calls, and stops in order when it is told to.

    python house_process.py '{"port": 5060, "username": "201", ...}'
"""

import asyncio
import json
import signal
import sys

from sip_house import open_house, until


async def main() -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with open_house(json.loads(sys.argv[1])) as house:
        standing = house.provider.listener.standing
        await until(lambda: standing is not None and standing.status.state == "up")
        print(house.port, flush=True)
        await told.wait()


asyncio.run(main())

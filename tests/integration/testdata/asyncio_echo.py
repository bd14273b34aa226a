"""asyncio_echo.py HOST PORT MARKER: twenty streams at once, a thousand lines each."""
import asyncio, sys

async def talk(host, port, marker, number):
    reader, writer = await asyncio.open_connection(host, port)
    lines = [f"{number} {i} {marker}\n".encode() for i in range(1000)]
    async def send():
        for line in lines:
            writer.write(line)
            await writer.drain()
        writer.write_eof()
    sending = asyncio.create_task(send())
    got = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    assert got == b"".join(lines), (number, len(got))

async def main(host, port, marker):
    await asyncio.gather(*(talk(host, port, marker, n) for n in range(20)))
    print("intact")

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))

"""serve_asyncio.py PORT FILE: HTTP over asyncio. GET gives the file, POST what was sent."""
import asyncio
import sys


async def handle(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next((int(l.split(":")[1]) for l in head.splitlines() if l.lower().startswith("content-length:")), 0)
    if head.startswith("POST"):
        body = await reader.readexactly(length)
    else:
        body = open(sys.argv[2], "rb").read()
    writer.write(f"HTTP/1.0 200 OK\r\nX-Client: {writer.get_extra_info('peername')[0]}\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()

asyncio.run(main())

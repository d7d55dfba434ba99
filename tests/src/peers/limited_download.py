"""One download with a rate limit, from ten peers that send all they are asked for, beside quiet peers that say `have` every
two seconds: limited_download.py DUNLIN LIBTORRENT_SCRIPT CLIENT RATE QUIET. Prints payload bytes per second.
The addresses are in 11.0.0.0/16, which has to be routed to this machine."""
import asyncio, hashlib, json, os, signal, struct, sys, tempfile

DUNLIN, LIBTORRENT, CLIENT, RATE, QUIET = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
BULK, PORT, HOST = 10, 6881, "11.0.0.1"
# Counted from the first moment until the second, in seconds after the start. Blocks of the ten peers come in nearly together, so
# a slow download is watched for longer.
FROM = 5
UNTIL = FROM + max(20, 6_000_000 // RATE)
PIECE = os.urandom(64 << 10)
# More than can be fetched; all pieces are alike.
COUNT = RATE * 120 // len(PIECE) + 64
UNCHOKE, HAVE, BITFIELD, REQUEST, BLOCK = 1, 4, 5, 6, 7

info = b"d6:lengthi%de4:name7:payload12:piece lengthi%de6:pieces%d:" % (COUNT * len(PIECE), len(PIECE), COUNT * 20)
info += hashlib.sha1(PIECE).digest() * COUNT + b"e"
HASH = hashlib.sha1(info).digest()


def message(kind, payload=b""):
    return struct.pack(">IB", 1 + len(payload), kind) + payload


async def greet(reader, writer):
    await reader.readexactly(68)
    writer.write(b"\x13BitTorrent protocol" + bytes(8) + HASH + b"-XX0000-" + os.urandom(6).hex().encode())


async def bulk(reader, writer):
    await greet(reader, writer)
    field = bytearray(b"\xff" * ((COUNT + 7) // 8))
    if COUNT % 8:
        field[-1] = 0xFF << (8 - COUNT % 8) & 0xFF
    writer.write(message(BITFIELD, bytes(field)) + message(UNCHOKE))
    while True:
        body = await reader.readexactly(struct.unpack(">I", await reader.readexactly(4))[0])
        if body and body[0] == REQUEST:
            piece, begin, length = struct.unpack(">III", body[1:13])
            writer.write(message(BLOCK, struct.pack(">II", piece, begin) + PIECE[begin:begin + length]))
            await writer.drain()


async def quiet(reader, writer):
    async def tell():
        piece = 0
        while True:
            await asyncio.sleep(2)
            writer.write(message(HAVE, struct.pack(">I", piece % COUNT)))
            piece += 1

    await greet(reader, writer)
    telling = asyncio.ensure_future(tell())
    try:
        while await reader.read(4096):
            pass
    finally:
        telling.cancel()


def until_it_leaves(serve):
    async def handle(reader, writer):
        try:
            await serve(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    return handle


def command(folder, torrent, peers):
    if CLIENT == "dunlin":
        told = [word for peer in peers for word in ("--peer", peer)]
        return [DUNLIN, "get", torrent, "-o", folder, "--no-session", "--bind", HOST, "-p", str(PORT), "--encryption", "off",
            "--dht", "disable", "--limit-down", str(RATE), "--json", *told]
    job = {"listen": f"{HOST}:{PORT}", "source": torrent, "dir": folder, "crypto": "off", "peers": peers,
        "settings": {"download_rate_limit": RATE, "connections_limit": 1000}}
    return ["/usr/bin/python3", "-I", LIBTORRENT, json.dumps(job)]


async def main():
    addresses = [f"11.0.1.{n + 1}" for n in range(BULK)] + [f"11.0.2.{n + 1}" for n in range(QUIET)]
    for n, address in enumerate(addresses):
        await asyncio.start_server(until_it_leaves(bulk if n < BULK else quiet), address, PORT)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        torrent = os.path.join(folder, "payload.torrent")
        with open(torrent, "wb") as file:
            file.write(b"d4:info" + info + b"e")
        peers = [f"{address}:{PORT}" for address in addresses]
        process = await asyncio.create_subprocess_exec(*command(folder, torrent, peers), stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, limit=1 << 20)
        clock, seen = asyncio.get_running_loop().time, []

        async def listen():
            async for line in process.stdout:
                if line.startswith(b"{") and "downloaded" in (said := json.loads(line)):
                    seen.append((clock(), said["downloaded"]))

        listening, began = asyncio.ensure_future(listen()), clock()
        while clock() < began + UNTIL + 1 and process.returncode is None:
            await asyncio.sleep(0.25)
            if CLIENT == "libtorrent" and clock() > began + 2:
                process.send_signal(signal.SIGUSR1)
        if process.returncode is not None:
            sys.exit(f"{CLIENT} ended with {process.returncode}")
        process.terminate()
        await process.wait()
        await listening
        first = next(sample for sample in seen if sample[0] >= began + FROM)
        last = [sample for sample in seen if sample[0] <= began + UNTIL][-1]
        print(round((last[1] - first[1]) / (last[0] - first[0])))


asyncio.run(main())

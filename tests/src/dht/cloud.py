"""A private DHT of python3-libtorrent (2.0.8) nodes: cloud.py SOCKET ADDRESS…, one session for each ADDRESS (ip:port).
Orders come over the unix socket SOCKET, one JSON object in a line, each answered by one."""
import json, os, socket, sys, time
import libtorrent as lt

path, addresses = sys.argv[1], sys.argv[2:]
# The network is private and small: addresses are not public, ids do not follow BEP 42, and what is a flood
# elsewhere is a test here.
settings = {
    "enable_dht": True, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "dht_bootstrap_nodes": "", "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False, "dht_ignore_dark_internet": False,
    "dht_block_ratelimit": 1000000, "dht_upload_rate_limit": 1000000000,
    "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.error_notification
        | lt.alert.category_t.dht_operation_notification | lt.alert.category_t.stats_notification,
}
# The key of BEP 44's test vectors: its private half is the expanded form that libtorrent wants.
PUBLIC = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
PRIVATE = bytes.fromhex("e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d"
    "b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d")
TURN = 0.02


def endpoint(text):
    ip, port = text.rsplit(":", 1)
    return ip.strip("[]"), int(port)


def text(pair):
    ip, port = pair
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


sessions = [lt.session(settings | {"listen_interfaces": address, "outgoing_interfaces": endpoint(address)[0]})
    for address in addresses]


def alerts(session):
    for alert in session.pop_alerts():
        print("#", alert.message(), flush=True)
        yield alert


def until(session, seconds, see):
    """Passes alerts to `see` until it answers something other than None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for alert in alerts(session):
            if (answer := see(alert)) is not None:
                return answer
        time.sleep(TURN)
    return None


def meet(order, _):
    """Every session asks the nodes given for a sign of life."""
    for session in sessions:
        for node in order["nodes"]:
            session.add_dht_node(endpoint(node))
    return {}


def sizes(order, _):
    """Nodes in the table of each session."""
    found = []
    for session in sessions:
        session.post_session_stats()
        found.append(until(session, 5, lambda a: a.values["dht.dht_nodes"] if isinstance(a, lt.session_stats_alert) else None))
    return {"nodes": found}


def peers(order, session):
    """Peers of a torrent, as soon as there are any, or none after `seconds`."""
    wanted = lt.sha1_hash(bytes.fromhex(order["hash"]))
    session.dht_get_peers(wanted)
    see = lambda a: [text(p) for p in a.peers()] or None if isinstance(a, lt.dht_get_peers_reply_alert) and a.info_hash == wanted else None
    return {"peers": until(session, order["seconds"], see) or []}


def announce(order, session):
    """Announces the session as a peer of a torrent: `session.dht_announce` cannot be called from Python."""
    params = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + order["hash"])
    params.save_path = os.getcwd()
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session.add_torrent(params).force_dht_announce()
    return {}


def put(order, session):
    """Stores an item: immutable, or under the key above if there is a salt."""
    value = order["value"].encode()
    if "salt" in order:
        session.dht_put_mutable_item(PRIVATE, PUBLIC, value, order["salt"].encode())
        target = ""
    else:
        target = str(session.dht_put_immutable_item(value))
    see = lambda a: a.num_success if isinstance(a, lt.dht_put_alert) else None
    return {"target": target, "key": PUBLIC.hex(), "stored": until(session, order["seconds"], see) or 0}


def get(order, session):
    """Fetches an item by target, or by key and salt: the newest that is found within `seconds`."""
    best = []

    def newest(alert):
        if not isinstance(alert, lt.dht_mutable_item_alert):
            return None
        # An alert is gone when the next are taken: what it says is copied.
        item, seq = alert.item["value"], alert.seq
        if isinstance(item, bytes) and (not best or seq > best[0][1]):
            best[:] = [(item.decode(), seq)]
        # The last one is marked authoritative; it comes late if a node that is gone was asked.
        return True if alert.authoritative else None

    def first(alert):
        if not isinstance(alert, lt.dht_immutable_item_alert):
            return None
        item = alert.item["value"]
        best[:] = [(item.decode() if isinstance(item, bytes) else None, None)]
        return True

    if "key" in order:
        session.dht_get_mutable_item(bytes.fromhex(order["key"]), order["salt"].encode())
        until(session, order["seconds"], newest)
    else:
        session.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(order["target"])))
        until(session, order["seconds"], first)
    value, seq = best[0] if best else (None, None)
    return {"value": value, "seq": seq}


def sample(order, session):
    """Asks one node which info-hashes it keeps (BEP 51)."""
    session.dht_sample_infohashes(endpoint(order["node"]), lt.sha1_hash(os.urandom(20)))
    found = until(session, order["seconds"], lambda a: a if isinstance(a, lt.dht_sample_infohashes_alert) else None)
    if found is None:
        return {}
    return {"samples": [str(s) for s in found.samples], "num": found.num_infohashes}


ORDERS = {f.__name__: f for f in (meet, sizes, peers, announce, put, get, sample)}

server = socket.socket(socket.AF_UNIX)
server.bind(path + ".new")
server.listen()
os.rename(path + ".new", path)
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rw") as stream:
        order = json.loads(stream.readline())
        session = sessions[order.get("session", 0)]
        for _ in alerts(session):
            pass  # of earlier orders
        stream.write(json.dumps(ORDERS[order["do"]](order, session)) + "\n")

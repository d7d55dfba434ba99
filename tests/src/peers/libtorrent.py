"""One torrent in python3-libtorrent (2.0.8 or newer): lt.py JOB, where JOB is a JSON object with
listen, source (path or magnet link), dir, crypto (off, preferred or required), settings (more of libtorrent's).
Also dht (a list of nodes: take part in the DHT), seed_mode, check (end after the check), exit_when_done, no_trackers, peers, up_limit (bytes per second).
Prints a JSON line whenever its state changes, on SIGUSR1, and at the end."""
import json, resource, signal, sys, time
import libtorrent as lt

job = json.loads(sys.argv[1])
host = job["listen"].rsplit(":", 1)[0]
settings = {
    "listen_interfaces": job["listen"],
    "outgoing_interfaces": host.strip("[]"),
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True, "close_redundant_connections": False,
    # Requests beyond the queue are dropped without a word to peers that lack the fast extension.
    "max_allowed_in_request_queue": 20000,
    "announce_to_all_trackers": True, "announce_to_all_tiers": True,
    # Trackers on private addresses are the lab's trackers.
    "ssrf_mitigation": False, "allow_idna": True,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.status_notification
        | lt.alert.category_t.tracker_notification | lt.alert.category_t.dht_notification,
}
# Policies: 0 forced, 1 enabled, 2 disabled; levels: 1 plain, 2 RC4, 3 both.
policy, level = {"off": (2, 1), "preferred": (1, 3), "required": (0, 2)}[job["crypto"]]
settings |= {"out_enc_policy": policy, "in_enc_policy": policy, "allowed_enc_level": level}
if "dht" in job:
    settings |= {"enable_dht": True, "dht_bootstrap_nodes": "", "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False, "dht_ignore_dark_internet": False}
settings |= job.get("settings", {})
session = lt.session(settings)
for node in job.get("dht", []):
    ip, port = node.rsplit(":", 1)
    session.add_dht_node((ip.strip("[]"), int(port)))

source = job["source"]
if source.startswith("magnet:"):
    params = lt.parse_magnet_uri(source)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(source)
params.save_path = job["dir"]
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if job.get("seed_mode"):
    params.flags |= lt.torrent_flags.seed_mode
if job.get("no_trackers"):
    params.trackers = []
    params.flags |= lt.torrent_flags.override_trackers
began = time.monotonic()
handle = session.add_torrent(params)
if job.get("up_limit"):
    handle.set_upload_limit(job["up_limit"])
for peer in job.get("peers", []):
    ip, port = peer.rsplit(":", 1)
    handle.connect_peer((ip.strip("[]"), int(port)))

stop, wanted = [], []
signal.signal(signal.SIGUSR1, lambda *_: wanted.append(1))
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))


def say(event):
    status, used = handle.status(), resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"event": event, "version": lt.__version__, "seconds": time.monotonic() - began,
        "user": used.ru_utime, "sys": used.ru_stime, "downloaded": status.total_payload_download,
        "uploaded": status.total_payload_upload, "progress": status.progress}), flush=True)


last, nodes = None, None
while not stop:
    for alert in session.pop_alerts():
        if isinstance(alert, lt.session_stats_alert):
            # It announces a new torrent at once, to nobody if it knows nobody yet, and then not for 15 minutes.
            if not nodes and (nodes := alert.values["dht.dht_nodes"]):
                handle.force_dht_announce()
            continue
        print("#", alert.message(), flush=True)
    if "dht" in job and not nodes:
        session.post_session_stats()
    status = handle.status()
    state = "seeding" if status.is_seeding else str(status.state)
    if state != last:
        say(last := state)
    if job.get("check") and "checking" not in state:
        break
    if job.get("exit_when_done") and status.is_seeding:
        break
    if wanted:
        wanted.clear()
        say("report")
    time.sleep(0.02)
say("end")

//! A Linux router between two TUN devices, and what it does with scripts.
//!
//! A packet that is written to a TUN device is routed, filtered and translated; a fence, one
//! untracked packet each way, tells when that is done. Expired entries are collected before each
//! burst: the kernel does so at its leisure, and until then lets them decide which port a new
//! flow of the same sender gets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dunlin_sim::Packet;
use smoltcp::phy::{self, Device, Medium, RxToken, TunTapInterface, TxToken};

use super::Fate;
use super::compare::{Side, fate};
use super::model::Model;
use super::script::{Place, Script, Send, Wan};
use crate::lab::Lab;

/// How late a packet may be sent. With [`super::model::MARGIN`] it keeps every pause half a
/// second away from every threshold.
const LATE: Duration = Duration::from_millis(250);
/// How long a fence may take.
const FENCE_LIMIT: Duration = Duration::from_secs(10);
/// Fences go between these.
const FENCE_LAN: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 2);
const FENCE_WAN: Ipv4Addr = Ipv4Addr::new(20, 255, 0, 2);

/// What came of a script.
#[derive(Clone, Debug)]
pub struct Run {
    /// Of each event.
    pub fates: Vec<Fate>,
    /// When each packet was sent, since the script began.
    pub times: Vec<Duration>,
    /// Whether one was sent so late that a timeout may have come in between.
    pub late: bool,
}

/// Puts scripts through one router, all at the same time.
///
/// # Panics
/// When there can be no router: root, `ip`, `nft` and TUN are needed.
pub fn run(model: &Model, scripts: &[Script]) -> Vec<Run> {
    let lab = Lab::bare();
    lab.inside(|| Router::new(model, scripts.len() as u16).run(scripts))
}

struct Router {
    lan: TunTapInterface,
    wan: TunTapInterface,
    fences: u32,
}

impl Router {
    /// In the namespace of the calling thread.
    fn new(model: &Model, places: u16) -> Self {
        let tun = |name| {
            TunTapInterface::new(name, Medium::Ip)
                .unwrap_or_else(|e| panic!("no TUN device (/dev/net/tun, root): {e}"))
        };
        let (lan, wan) = (tun("lan"), tun("wan"));
        for (key, value) in model.sysctls() {
            fs::write(format!("/proc/sys/net/{key}"), value)
                .unwrap_or_else(|e| panic!("net/{key}: {e}"));
        }
        let mut batch = String::from(
            "link set lan up\nlink set wan up\n\
             route add 10.0.0.0/8 dev lan\nroute add 20.255.0.0/16 dev wan\n",
        );
        for place in (0..places).map(Place) {
            batch += &format!("addr add {}/24 dev wan\n", place.public());
        }
        feed("ip", &["-batch", "-"], &batch);
        let fences = format!("{FENCE_LAN}, {FENCE_WAN}");
        feed("nft", &["-f", "-"], &model.ruleset(places, &fences));
        Self {
            lan,
            wan,
            fences: 0,
        }
    }

    fn run(&mut self, scripts: &[Script]) -> Vec<Run> {
        let mut runs: Vec<Run> = scripts
            .iter()
            .map(|script| Run {
                fates: Vec::with_capacity(script.events.len()),
                times: Vec::with_capacity(script.events.len()),
                late: false,
            })
            .collect();
        // One packet of each script in a round.
        let mut rounds: BTreeMap<(u32, usize), Vec<usize>> = BTreeMap::new();
        for (s, script) in scripts.iter().enumerate() {
            for (i, event) in script.events.iter().enumerate() {
                let first = script.events.partition_point(|e| e.at < event.at);
                rounds.entry((event.at, i - first)).or_default().push(s);
            }
        }
        let began = Instant::now();
        let mut last = None;
        for ((at, _), members) in rounds {
            if last.replace(at) != Some(at) {
                let due = Duration::from_millis(at.into());
                thread::sleep(due.saturating_sub(began.elapsed()));
                collect_expired();
            }
            let mut sent = BTreeMap::new();
            let mut came = Vec::new();
            for s in members {
                let (script, run, place) = (&scripts[s], &mut runs[s], Place(s as u16));
                let i = run.fates.len();
                let event = &script.events[i];
                let time = began.elapsed();
                run.late |= time > Duration::from_millis(event.at.into()) + LATE;
                run.times.push(time);
                let wan = match event.wan() {
                    None => 0,
                    Some(Wan::Port(port)) => port,
                    Some(Wan::Seen(k)) => match run.fates[k] {
                        Fate::Outside { port } => port,
                        _ => {
                            run.fates.push(Fate::Unsent);
                            continue;
                        }
                    },
                };
                let packet = event.packet(place, i, wan);
                let device = match event.send {
                    Send::In(..) => &mut self.wan,
                    Send::Out(..) | Send::Hairpin(..) => &mut self.lan,
                };
                send(device, packet.bytes());
                self.drain(&mut came);
                sent.insert(s, packet);
            }
            self.fence(&mut came);
            let mut fates: BTreeMap<usize, Fate> = BTreeMap::new();
            for (side, packet) in &came {
                let Some(s) = whose(packet).filter(|s| sent.contains_key(s)) else {
                    panic!("nobody's packet came out: {packet:?}");
                };
                let event = &scripts[s].events[runs[s].fates.len()];
                let new = fate(Place(s as u16), event, &sent[&s], *side, packet);
                fates
                    .entry(s)
                    .and_modify(|old| *old = Fate::Strange(format!("{old}, and {new}")))
                    .or_insert(new);
            }
            for s in sent.into_keys() {
                let fate = fates.remove(&s).unwrap_or(Fate::Dropped);
                runs[s].fates.push(fate);
            }
        }
        runs
    }

    /// Whatever has come out so far.
    fn drain(&mut self, came: &mut Vec<(Side, Packet)>) {
        for (side, device) in [(Side::Lan, &mut self.lan), (Side::Wan, &mut self.wan)] {
            while let Some(packet) = receive(device) {
                came.extend(packet.map(|packet| (side, packet)));
            }
        }
    }

    /// Waits until all that was written has been seen to.
    fn fence(&mut self, came: &mut Vec<(Side, Packet)>) {
        self.fences += 1;
        let [inside, outside] = [FENCE_LAN, FENCE_WAN].map(|ip| SocketAddr::from((ip, 9)));
        let number = self.fences.to_be_bytes();
        send(&mut self.lan, Packet::udp(inside, outside, &number).bytes());
        send(&mut self.wan, Packet::udp(outside, inside, &number).bytes());
        let deadline = Instant::now() + FENCE_LIMIT;
        for (side, device) in [(Side::Lan, &mut self.lan), (Side::Wan, &mut self.wan)] {
            loop {
                match receive(device) {
                    Some(Some(packet)) => {
                        let from = packet.flow().src;
                        if from != inside && from != outside {
                            came.push((side, packet));
                        } else if packet.payload() == number {
                            break;
                        }
                    }
                    Some(None) => {}
                    None => {
                        let left = deadline.saturating_duration_since(Instant::now());
                        assert!(!left.is_zero(), "a fence did not come out of {side:?}");
                        phy::wait(device.as_raw_fd(), Some(left.into())).expect("poll");
                    }
                }
            }
        }
    }
}

/// Makes the kernel forget what has expired: it does so with what it meets while it lists.
fn collect_expired() {
    fs::read("/proc/thread-self/net/nf_conntrack").expect("the conntrack table (root)");
}

/// Which script a packet belongs to, by any of its addresses.
fn whose(packet: &Packet) -> Option<usize> {
    let SocketAddr::V4(dst) = packet.flow().dst else {
        return None;
    };
    Place::of(*dst.ip()).map(|place| place.0.into())
}

fn send(device: &mut TunTapInterface, bytes: &[u8]) {
    let token = device
        .transmit(smoltcp::time::Instant::ZERO)
        .expect("a TUN device always has a token");
    token.consume(bytes.len(), |buffer| buffer.copy_from_slice(bytes));
}

/// `None` if nothing waits; `Some(None)` for a packet that the simulator does not model (IPv6 of the kernel
/// itself).
fn receive(device: &mut TunTapInterface) -> Option<Option<Packet>> {
    let (token, _) = device.receive(smoltcp::time::Instant::ZERO)?;
    let packet = token.consume(|bytes| Packet::parse(bytes.to_vec()).ok());
    Some(packet.filter(|packet| packet.flow().dst.is_ipv4()))
}

/// Runs a program with this input.
fn feed(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin
        .write_all(input.as_bytes())
        .expect("the program reads");
    drop(stdin);
    let done = child.wait_with_output().expect("our child");
    assert!(
        done.status.success(),
        "{program}: {}\n{input}",
        String::from_utf8_lossy(&done.stderr)
    );
}
